"""`tui_lab.watch`: what a script passes is used, what it does not pass is found."""

from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import tui_lab
from tests.core.watch.loops import STEPS, batch, plain, start
from tui_lab.core import commands as cmd
from tui_lab.core import events as ev
from tui_lab.core.config.script import ScriptConfig
from tui_lab.core.runs.folder import Run
from tui_lab.core.watch.api import WatchedRun
from tui_lab.core.watch.ranks.following_rank import FollowingRank
from tui_lab.core.watch.recording import Recording
from tui_lab.core.watch.steering.steering import StopRequested
from tui_lab.data.tokenizers import TableTokenizer
from tui_lab.util.errors import ConfigError


@pytest.fixture(autouse=True)
def _ends() -> Iterator[None]:
    """No test leaves a recording to the next."""
    yield
    if Recording.active is not None:
        Recording.active.end()


def watched(run: WatchedRun) -> Run:
    assert run.path is not None
    return Run(run.path)


def test_given_model_optimizer_tokenizer_and_config_are_recorded(tmp_path: Path) -> None:
    model = start()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    itos = dict(enumerate("abcdefghijk"))
    config = Namespace(n_layer=3)
    with tui_lab.watch(model, optimizer, tokenizer=itos, config=config, steps=6, out=tmp_path / "r") as run:
        for step in range(STEPS):
            _, loss = model(*batch(step))
            loss.backward()
            optimizer.step()
    recorded = watched(run).config()
    assert isinstance(recorded, ScriptConfig)
    assert (recorded.settings, recorded.train.steps) == ({"n_layer": 3}, 6)
    tokenizer = watched(run).tokenizer()
    assert isinstance(tokenizer, TableTokenizer)
    assert tokenizer.token_bytes(1) == b"b"


def test_other_optimizers_than_the_given_one_are_not_recorded(tmp_path: Path) -> None:
    other = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1)
    with tui_lab.watch(optimizer=other, out=tmp_path / "r") as run:
        plain()
    assert not [event for event in watched(run).events() if isinstance(event, ev.StepDone)]


def test_logged_values_become_events(tmp_path: Path) -> None:
    with tui_lab.watch(out=tmp_path / "r") as run:
        plain(2)
        run.log(val_loss=torch.tensor(2.5), accuracy=0.5, sample="Socrates: ")
    events = list(watched(run).events())
    assert [event.val_loss for event in events if isinstance(event, ev.Evaluated)] == [2.5]
    logged = next(event for event in events if isinstance(event, ev.Logged))
    assert (logged.values, logged.texts) == ({"accuracy": 0.5}, {"sample": "Socrates: "})


def test_loop_without_an_optimizer_records_and_is_steered(tmp_path: Path) -> None:
    run = tui_lab.watch(out=tmp_path / "r")
    assert Recording.active is not None
    Recording.active.boundary.control.commands.put(cmd.Scale("optim.lr_factor", 2.0))
    rates = []
    for step in range(3):
        x, y = batch(step)
        rates.append(run.lr(0.5))
        run.step(loss=1.0 / (step + 1), lr=rates[-1], x=x, y=y)
    run.close()
    steps = [event for event in watched(run).events() if isinstance(event, ev.StepDone)]
    assert rates == [0.5, 1.0, 1.0]
    assert [step.loss for step in steps] == [1.0, 0.5, pytest.approx(1 / 3)]
    assert steps[-1].tokens == 3 * batch(0)[0].numel()


def test_stop_reaches_a_loop_without_an_optimizer(tmp_path: Path) -> None:
    run = tui_lab.watch(out=tmp_path / "r")
    assert Recording.active is not None
    Recording.active.boundary.control.commands.put(cmd.Stop())
    with pytest.raises(StopRequested):
        run.step(loss=1.0)


def test_second_call_returns_the_run_that_is_recorded(tmp_path: Path) -> None:
    with tui_lab.watch(out=tmp_path / "r") as run:
        again = tui_lab.watch(steps=7)
        assert again.path == run.path
        plain(2)
    config = watched(run).config()
    assert isinstance(config, ScriptConfig) and config.train.steps == 7


def test_only_the_first_process_of_torchrun_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    with tui_lab.watch(out=tmp_path / "r") as run:
        run.log(val_loss=1.0)
        run.step(loss=1.0)
        assert run.lr(0.5) == 0.5
    assert run.path is None and not (tmp_path / "r").exists()
    assert FollowingRank.active is None, "only `tui-lab watch` starts it"


def test_a_process_that_follows_steers_the_given_optimizers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    following = FollowingRank.start()
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))])
    try:
        tui_lab.watch(optimizer=optimizer)
        tui_lab.watch()
    finally:
        following.remove()
    assert following.optimizers == (optimizer,)


def test_wrong_arguments_name_the_key(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        tui_lab.watch(optimizer="adam", out=tmp_path / "r")  # type: ignore[arg-type]
    assert (refused.value.problems[0].key, refused.value.problems[0].code) == ("optimizer", "wrong_type")
    with tui_lab.watch(out=tmp_path / "r") as run:
        for value in ([1, 2], torch.ones(3), torch.ones(3).numpy(), None):
            with pytest.raises(ConfigError) as refused:
                run.log(accuracy=value)
            assert refused.value.problems[0].key == "accuracy"

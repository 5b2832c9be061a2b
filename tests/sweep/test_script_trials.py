"""Trials of a script: each in a process of its own, recorded, with its values, and no file of the user is changed."""

import subprocess
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import pytest

from tests.core.recorded import STARTED, recorded, update
from tui_lab.cli.sweep import Display, Reporter
from tui_lab.core import events as ev
from tui_lab.core.config.script import ScriptConfig
from tui_lab.core.runs.folder import Run
from tui_lab.core.runs.follow import LogFollower
from tui_lab.core.runs.summary import Summary
from tui_lab.core.runs.sweep import folder as sweeps
from tui_lab.core.runs.sweep.folder import Result, Sweep
from tui_lab.core.runs.sweep.script_plan import script_plan
from tui_lab.core.runs.sweep.script_trials import ScriptTrials
from tui_lab.core.watch.process.unreplaced import Unreplaced, read_unreplaced
from tui_lab.sweep import results
from tui_lab.sweep.progress import Silent
from tui_lab.sweep.script_trial import LIST_OF_VALUES, ScriptTrial
from tui_lab.sweep.stopper import Stopper
from tui_lab.util.errors import RunError

TRAIN = """
import config, sys, torch
from tui_lab.core.training.optim_without_dynamo import SGD
lr = 0.1
momentum = float(sys.argv[1])
model = torch.nn.Linear(4, 1)
optimizer = SGD(model.parameters(), lr=lr, momentum=momentum, weight_decay=config.sgd.wd)
x = torch.ones(8, 4)
open("cache.txt", "w").write("for all trials")
for i in range(100):
    if i % 2 == 0:
        with torch.no_grad():
            torch.nn.functional.mse_loss(model(x), x[:, :1])
    loss = torch.nn.functional.mse_loss(model(x), x[:, :1])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    torch.save(model.state_dict(), "model.pt")
    open("best.txt", "w").write(str(i))
    with open("log.txt", "a") as log:
        log.write(f"{i} {loss.item()}\\n")
"""


def never(step: int, value: float) -> bool:
    return False


def trial_of(
    code: str, folder: Path, report: Callable[[int, float], bool] = never, steps: int = 0, over: Sequence[str] = ()
) -> ScriptTrial:
    """Return the only trial of a sweep over train.py, whose argument is its momentum."""
    (folder / "config.py").write_text("class sgd:\n    wd: float = 0.5\n", "utf-8")
    (folder / "train.py").write_text(code, "utf-8")
    script = ScriptTrials("train.py", ("{momentum}",), is_module=False, folder=str(folder), steps=steps)
    plan = script_plan(script, ["momentum=0.5", *over], {}, None)
    return ScriptTrial(sweeps.create_sweep(plan, folder / "s"), 0, report)


def test_trial_is_a_run_with_its_values_and_changes_no_file_of_the_user(tmp_path: Path) -> None:
    for name in ("log.txt", "model.pt"):
        (tmp_path / name).write_text("the user's", "utf-8")
    result = trial_of(TRAIN, tmp_path, steps=4, over=["lr=0.01", "sgd.wd=0.25"]).train(Stopper())
    assert result is not None and result.state == "done" and result.summary is not None
    assert result.summary.steps == 4 and result.value == result.summary.val_loss is not None
    [run] = [Run(path) for path in (tmp_path / "s" / "trials").iterdir()]
    config = run.config()
    assert isinstance(config, ScriptConfig)
    assert config.settings == {"lr": 0.01, "momentum": 0.5, "config.sgd.wd": 0.25} and config.optim.lr == 0.01
    assert config.optim.weight_decay == 0.25 and "0.5" in (tmp_path / "config.py").read_text("utf-8")
    log = (run.path / "files" / "log.txt").read_text("utf-8")
    assert log.startswith("the user's0 ") and log.count("\n") == 3
    assert (run.path / "files" / "model.pt").stat().st_size > 100 and run.has_checkpoint
    assert (run.path / "files" / "best.txt").read_text("utf-8") == "2"
    assert (tmp_path / "cache.txt").exists() and not (tmp_path / "best.txt").exists(), "only made before the training"
    assert all((tmp_path / name).read_text("utf-8") == "the user's" for name in ("log.txt", "model.pt"))


def test_trial_whose_value_was_not_replaced_fails(tmp_path: Path) -> None:
    trial = trial_of("lr = 1\n", tmp_path, over=["lr=2"])
    folder = sweeps.read_sweep(tmp_path / "s").folder(0)
    recorded(folder, [STARTED, update(1), ev.Stopped(step=1, reason="done")])
    assert (done := trial.train(Stopper())) is not None and done.state == "done"
    values = Unreplaced(folder / LIST_OF_VALUES, ["lr", "config.wd"])
    values.replaced("config.wd")
    result = trial.train(Stopper())
    assert result is not None and result.state == "failed" and "lr" in result.message
    values.replaced("lr")
    assert read_unreplaced(folder / LIST_OF_VALUES) == []


def test_pruned_trial_is_stopped_and_keeps_its_figures(tmp_path: Path) -> None:
    reported: list[int] = []

    def report(step: int, value: float) -> bool:
        reported.append(step)
        return True

    slow = TRAIN.replace("range(100)", "range(20_000)")
    result = trial_of(slow, tmp_path, report).train(Stopper())
    assert result is not None and result.state == "pruned" and result.summary is not None
    assert reported and result.summary.steps > 0


def test_process_of_a_trial_ends_with_an_error_of_what_watches_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    children: list[subprocess.Popen[bytes]] = []

    class Child(subprocess.Popen[bytes]):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            children.append(self)

    def poll(follower: LogFollower) -> NoReturn:
        raise RunError("damaged")

    monkeypatch.setattr(subprocess, "Popen", Child)
    monkeypatch.setattr(LogFollower, "poll", poll)
    result = trial_of("import time\ntime.sleep(1000)\n", tmp_path).train(Stopper())
    assert result is not None and result.state == "failed" and "damaged" in result.message
    [child] = children
    assert child.returncode is not None


def test_script_that_fails_says_what_it_printed_last(tmp_path: Path) -> None:
    result = trial_of("import sys\nprint('no such option', file=sys.stderr)\nsys.exit(2)\n", tmp_path).train(Stopper())
    assert result is not None and result.state == "failed" and "no such option" in result.message


@pytest.mark.parametrize(
    "code", ["import os; os._exit(9)", pytest.param("raise KeyboardInterrupt", marks=pytest.mark.slow), "pass"]
)
def test_script_without_steps_fails_instead_of_running_again(code: str, tmp_path: Path) -> None:
    result = trial_of(code, tmp_path).train(Stopper())
    assert result is not None and result.state == "failed" and result.message


def test_script_that_no_longer_assigns_a_value_fails(tmp_path: Path) -> None:
    trial = trial_of("lr = 1\n", tmp_path, over=["lr=2"])
    (tmp_path / "train.py").write_text("rate = 1\n", "utf-8")
    result = trial.train(Stopper())
    assert result is not None and result.state == "failed" and "lr" in result.message


def test_stopped_trial_has_no_result_and_runs_again(tmp_path: Path) -> None:
    stopper = Stopper()
    stopper.request()
    trial = trial_of("import time\ntime.sleep(1000)\n", tmp_path)
    assert trial.train(stopper) is None
    (tmp_path / "train.py").write_text("raise SystemExit('ended')", "utf-8")
    again = trial.train(Stopper())
    assert again is not None and again.state == "failed"


def sweep_with(losses: dict[tuple[float, int], float], folder: Path) -> Sweep:
    """A sweep over lr and width, of two values each, whose trials are done with these train losses."""
    (folder / "train.py").write_text("lr = 1.0\nwidth = 1\n", "utf-8")
    script = ScriptTrials("train.py", (), is_module=False, folder=str(folder))
    sweep = sweeps.create_sweep(script_plan(script, ["lr=0.1,0.2", "width=1,2"], {}, None), folder / "s")
    for number, point in enumerate(sweep.plan.points):
        loss = losses[point["lr"], point["width"]]
        values = dict.fromkeys(Summary.model_fields, None) | {"train_loss": loss, "reason": "done", "run": ""}
        numbers = {"steps": 1, "tokens": 1, "train_seconds": 1.0, "changes": 0, "faults": (), "message": ""}
        summary = Summary.model_validate(values | numbers | {"event": "summary"})
        sweep.write_result(number, Result("done", loss, summary=summary))
    return sweep


def test_key_without_effect_is_named_once_after_the_second_trial(tmp_path: Path) -> None:
    losses = {(lr, width): lr for lr in (0.1, 0.2) for width in (1, 2)}
    sweep = sweep_with(losses, tmp_path)
    rows = sweep.rows()
    waiting = [replace(row, state="waiting", result=None) for row in rows]
    notes: list[str] = []

    class Noted(Silent):
        def note(self, text: str) -> None:
            notes.append(text)

    reporter = Reporter(sweep.plan, Noted(), set(), Display(quiet=True))
    n_notes = []
    for n_done in range(4):
        reporter.update([*rows[:n_done], *waiting[n_done:]])
        n_notes.append(len(notes))
    assert n_notes == [0, 0, 1, 1] and "width" in notes[0]


@pytest.mark.parametrize(
    ("losses", "expected"),
    [((1.0, 1.0, 2.0, 2.0), ["width"]), ((1.0, 2.0, 1.0, 2.0), ["lr"]), ((1.0, 1.0, 2.0, 3.0), [])],
)
def test_key_whose_values_change_no_loss_is_named(
    losses: tuple[float, ...], expected: list[str], tmp_path: Path
) -> None:
    points = [(lr, width) for lr in (0.1, 0.2) for width in (1, 2)]
    sweep = sweep_with(dict(zip(points, losses, strict=True)), tmp_path)
    assert results.without_effect(sweep.plan, sweep.rows()) == expected


@pytest.mark.parametrize(("loss", "expected"), [(1.0, ["lr", "width"]), (2.0, [])])
def test_draws_that_differ_in_all_keys_and_give_one_loss_name_all_keys(
    loss: float, expected: list[str], tmp_path: Path
) -> None:
    losses = {(lr, width): loss if lr == 0.2 else 1.0 for lr in (0.1, 0.2) for width in (1, 2)}
    sweep = sweep_with(losses, tmp_path)
    first, _, _, last = sweep.rows()
    assert results.without_effect(sweep.plan, [first, last]) == expected

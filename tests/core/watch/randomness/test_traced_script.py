"""What is traced of a script, in this process and in one of its own."""

import textwrap
from pathlib import Path

import pytest
import torch

from tests.core.watch.loops import batch, start
from tui_lab.core.watch.process.recorded_script import ScriptToRun
from tui_lab.core.watch.process.script_process import Target
from tui_lab.core.watch.randomness import traced_script
from tui_lab.core.watch.randomness.fingerprints import fingerprint
from tui_lab.core.watch.randomness.sources import HASHES, NUMPY, OWN, PYTHON, TORCH
from tui_lab.core.watch.randomness.trace import Entry, first_difference
from tui_lab.core.watch.randomness.traced_runs import ScriptTracer, TracingStopped
from tui_lab.core.watch.randomness.traced_script import TracedScript
from tui_lab.core.watch.randomness.verdict import judge
from tui_lab.util.errors import ConfigError

N = 3


class Complete(BaseException):
    """The script has made its steps. Hooks do not catch it, as they would an Exception."""


def traced(folder: Path, *, seed: int = 0, noise: float = 0.0, lr: float = 0.1) -> tuple[list[Entry], list[float]]:
    """Train for N steps; return the trace and the losses. noise: added to the gradients of step 2."""

    def complete() -> None:
        raise Complete

    entries: list[Entry] = []
    problems: list[str] = []
    losses: list[float] = []
    script = TracedScript(N, folder, entries.append, problems.append, complete)
    try:
        model = start()
        torch.manual_seed(seed)
        optimizer = torch.optim.SGD(model.parameters(), lr=lr)
        for step in range(10):
            x, y = batch(step)
            model(x)  # A call that nothing depends on is an input, too.
            _, loss = model(x, y)
            optimizer.zero_grad()
            loss.backward()
            losses.append(loss.item())
            if step == 1 and model.head.bias.grad is not None:
                model.head.bias.grad.add_(noise)
            optimizer.step()
    except Complete:
        pass
    finally:
        script.finish()
    assert problems == []
    return entries, losses


def test_a_trace_has_the_weights_batches_losses_gradients_and_updates_of_each_step(tmp_path: Path) -> None:
    entries, losses = traced(tmp_path)
    names = [name for name, _ in start().named_parameters()]
    first = [entry for entry in entries if entry.step == 1]
    weights = dict(start().named_parameters())
    assert [(e.name, e.value) for e in first if e.kind == "weights"] == [(n, fingerprint(weights[n])) for n in names]
    x, y = batch(0)
    assert [e.value for e in first if e.kind == "batch"] == [fingerprint(t) for t in (x, x, y, y.flatten())]
    for kind in ("gradient", "update"):
        assert [e.name for e in first if e.kind == kind] == names
    assert [float(e.value) for e in entries if e.kind == "loss"] == losses
    assert {entry.step for entry in entries} == {1, 2, 3} and len(losses) == N


def test_the_first_thing_that_differs_is_found(tmp_path: Path) -> None:
    plain, _ = traced(tmp_path)
    same, _ = traced(tmp_path)
    assert first_difference(plain, same) is None
    noisy = first_difference(plain, traced(tmp_path, noise=1e-7)[0])
    assert noisy is not None and (noisy.step, noisy.kind, noisy.name) == (2, "gradient", "head.bias")
    rate = first_difference(plain, traced(tmp_path, lr=0.1000001)[0])
    assert rate is not None and (rate.step, rate.kind, rate.values) == (1, "setting", ("0.1", "0.1000001"))
    dropout = first_difference(plain, traced(tmp_path, seed=1)[0])
    assert dropout is not None and (dropout.step, dropout.kind) == (1, "loss")


def test_what_cannot_be_traced_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(tensor: torch.Tensor) -> str:
        raise RuntimeError("unreadable")

    monkeypatch.setattr(traced_script, "fingerprint", fail)
    problems: list[str] = []
    script = TracedScript(N, tmp_path, lambda entry: None, problems.append, lambda: None)
    start()(*batch(0))
    script.finish()
    assert "unreadable" in problems[0]


SCRIPT = """
    import random, sys
    from pathlib import Path
    import torch
    from torch import nn
    from tui_lab.core.training.optim_without_dynamo import SGD

    torch.manual_seed(0)
    own = random.Random()
    model = nn.Linear(4, 3)
    optimizer = SGD(model.parameters(), lr=0.5)
    Path("notes.txt").write_text("changed")
    Path("cache").mkdir()
    Path("cache", "text.txt").write_text("made")
    for step in range(int(sys.argv[1])):
        loss = nn.functional.mse_loss(model(torch.full((8, 4), random.random() + own.random())), torch.zeros(8, 3))
        loss.backward()
        optimizer.step()
        torch.save(model.state_dict(), "weights.pt")
    open("log.txt", "w").write("changed")
    1 / 0
"""


def tracer(folder: Path, *arguments: str) -> ScriptTracer:
    script = folder / "train.py"
    script.write_text(textwrap.dedent(SCRIPT), "utf-8")
    return ScriptTracer(ScriptToRun(Target(str(script), arguments), str(folder)), N)


def test_a_run_of_a_script_ends_after_its_steps_and_changes_no_file(tmp_path: Path) -> None:
    for name in ("log.txt", "notes.txt"):
        (tmp_path / name).write_text("mine", "utf-8")
    run = tracer(tmp_path, "9").run()
    assert run.n_steps == N and run.problem == ""
    kinds = ("weights", "batch", "loss", "gradient", "setting", "update")
    assert tuple(dict.fromkeys(entry.kind for entry in run.entries)) == kinds
    assert {source.kind: source.is_free for source in run.sources} == {
        OWN: True,
        PYTHON: True,
        NUMPY: False,
        TORCH: False,
    }
    assert run.written == [str(Path("cache", "text.txt"))]
    assert run.changed == ["notes.txt"]
    assert {(tmp_path / name).read_text("utf-8") for name in ("log.txt", "notes.txt")} == {"mine"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log.txt", "notes.txt", "train.py"]


def test_a_tracer_that_is_stopped_leaves_no_process(tmp_path: Path) -> None:
    stopped = tracer(tmp_path, "9")
    stopped.stop()
    with pytest.raises(TracingStopped):
        stopped.run()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["train.py"]


@pytest.mark.slow
def test_a_script_that_ends_before_its_steps_is_judged_and_one_without_a_step_is_an_error(tmp_path: Path) -> None:
    run = tracer(tmp_path, "2").run()
    assert run.n_steps == 2 and "ZeroDivisionError" in run.error
    with pytest.raises(ConfigError) as raised:
        tracer(tmp_path, "0").run()
    assert "ZeroDivisionError" in str(raised.value)


@pytest.mark.slow
def test_causes_of_a_real_script_are_found(tmp_path: Path) -> None:
    verdict = judge(tracer(tmp_path, "9"))
    assert verdict.difference is not None and verdict.difference.kind == "batch"
    own = next(source.key for source in verdict.sources if source.kind == OWN)
    assert list(verdict.causes) == [own, PYTHON] and verdict.remaining is None
    assert next(source for source in verdict.sources if source.kind == HASHES).is_free

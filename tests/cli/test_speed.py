"""What `tui-lab speed` prints of a measurement, and what it refuses."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.command_line import RunCli
from tui_lab.cli import speed as command
from tui_lab.core.watch.speed.comparison import Effect, Ratio
from tui_lab.core.watch.speed.line_sampler import Line
from tui_lab.core.watch.speed.script_speed import OnStepTime, ScriptSpeed, StepTime, Tried

STEP = StepTime(
    n_steps=9,
    phases={"data": 0.3, "forward": 0.2, "backward": 0.4, "update": 0.05, "loop": 0.05, "evaluation": 0.0},
    lines=((Line("train.py:2", ""), 0.6), (Line("train.py:1", "Layer.forward"), 0.3), (Line("train.py:3", ""), 0.01)),
    tokens=512,
    samples=8,
    rows=8,
    device="cpu",
    threads=2,
    workers=0,
    model="GPT",
    optimizers=("AdamW",),
)


def tried(name: str, effect: Effect, median: float) -> Tried:
    return Tried(name, f"text of {name}", f"code of {name}", Ratio(effect, median, median, median, 5))


SPEED = ScriptSpeed(
    step=STEP,
    tried=(
        tried("a", "faster", 1.2),
        tried("b", "faster", 1.5),
        tried("c", "slower", 0.5),
        tried("d", "unclear", 1.4),
        Tried("e", "text of e", "code of e", None, "line 3: TypeError"),
    ),
    not_tried={"compile": "takes long"},
    n_steps=99,
    ended="",
    has_failed=False,
    errors=(),
)


@pytest.fixture
def measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[ScriptSpeed], None]:
    """Return a function that gives the command a measurement."""
    (tmp_path / "train.py").write_text("model()\nloss.backward()\nprint()\n", "utf-8")
    monkeypatch.chdir(tmp_path)

    def give(speed: ScriptSpeed) -> None:
        def measure(*arguments: object, on_step_time: OnStepTime, **options: object) -> ScriptSpeed:
            on_step_time(speed.step, 1.0)
            return speed

        monkeypatch.setattr(command, "measure_speed", measure)

    return give


def rows(text: str, first: str) -> list[str]:
    """Return the cells of the row of a table that has a cell `first`."""
    cells = [[cell.strip() for cell in line.split("│")] for line in text.splitlines() if line.startswith("│")]
    return next(row for row in cells if first in row)


def test_parts_lines_and_changes_are_shown(measured: Callable[[ScriptSpeed], None], run_cli: RunCli) -> None:
    measured(SPEED)
    result = run_cli("speed", "train.py")
    assert result.code == 0
    assert "30%" in rows(result.out, "waiting for the DataLoader")
    assert "loss.backward()" in rows(result.out, "train.py:2")
    assert "Layer.forward()" in rows(result.out, "train.py:1")
    assert "train.py:3" not in result.out
    assert "1.50x" in rows(result.out, "text of b") and "faster" in rows(result.out, "text of b")
    assert "TypeError" in result.out and "takes long" in result.out


def test_advice_is_what_was_faster_the_best_first_and_what_waits(
    measured: Callable[[ScriptSpeed], None], run_cli: RunCli
) -> None:
    measured(SPEED)
    best, second, workers = json.loads(run_cli("speed", "train.py", "--json").out)["advice"]
    assert "code of b" in best and "code of a" in second and "num_workers" in workers
    measured(replace(SPEED, tried=(), step=replace(STEP, workers=2)))
    (more,) = json.loads(run_cli("speed", "train.py", "--json").out)["advice"]
    assert "more than 2 workers" in more
    measured(replace(SPEED, tried=(), step=replace(STEP, workers=None)))
    assert json.loads(run_cli("speed", "train.py", "--json").out)["advice"] == []


def test_script_without_tokens_or_a_loader_has_neither(
    measured: Callable[[ScriptSpeed], None], run_cli: RunCli
) -> None:
    step = replace(STEP, tokens=0, samples=0, workers=None, lines=())
    measured(replace(SPEED, step=step, ended="ValueError", has_failed=True))
    result = run_cli("speed", "train.py")
    assert result.code == 3 and "/s" not in result.out and "DataLoader" not in result.out.partition("- ")[0]
    assert "ValueError" in result.out


@pytest.mark.parametrize(
    ("arguments", "key"), [([], "speed"), (["reverse"], "speed"), (["none.py"], ""), (["--", "--x"], "speed")]
)
def test_what_is_no_script_is_refused(arguments: list[str], key: str, run_cli: RunCli) -> None:
    result = run_cli("speed", *arguments)
    assert result.code == 2 and key in result.err


def test_parts_that_are_not_known_are_a_part_of_the_loop(
    measured: Callable[[ScriptSpeed], None], run_cli: RunCli
) -> None:
    measured(replace(SPEED, step=replace(STEP, model="", optimizers=(), phases={**STEP.phases, "forward": 0.0})))
    out = run_cli("speed", "train.py").out
    assert rows(out, "the rest of the loop, with the forward pass and the update")
    assert "forward pass and loss" not in out and "optimizer" not in out.partition("Speed with")[0]


def test_too_few_steps_for_any_change_are_not_judged(measured: Callable[[ScriptSpeed], None], run_cli: RunCli) -> None:
    measured(replace(SPEED, tried=(), not_tried={}, n_steps=0, ended="it made only 9 steps"))
    result = run_cli("speed", "train.py")
    assert result.code == 4 and "Speed with" not in result.out


def test_evaluation_that_takes_much_of_the_time_is_an_advice(
    measured: Callable[[ScriptSpeed], None], run_cli: RunCli
) -> None:
    measured(replace(SPEED, tried=(), step=replace(STEP, workers=None, phases={**STEP.phases, "evaluation": 1.0})))
    (evaluation,) = json.loads(run_cli("speed", "train.py", "--json").out)["advice"]
    assert "50%" in evaluation

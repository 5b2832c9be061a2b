"""Groups of seeds, and their comparison at equal steps, tokens and time."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.core.recorded import STARTED, evaluated, recorded, recorded_script, script_config, update
from tests.core.tiny import tiny
from tui_lab.core import events as ev
from tui_lab.core.runs.catalog import row_of
from tui_lab.core.runs.compare import Course, MeasuredValue, at_equal
from tui_lab.core.runs.compare_groups import GroupComparison, compare_groups


def story(loss: float, *, ends: bool = True, change_at: int | None = None) -> Iterator[ev.Event]:
    """Eight steps with a validation loss of `loss` at the end."""
    yield STARTED
    for step in range(1, 9):
        if step - 1 == change_at:
            yield ev.Changed(step=step - 1, key="optim.lr", old=0.01, new=0.02)
        yield update(step)
    yield evaluated(8, loss)
    if ends:
        yield ev.Stopped(step=8, reason="done")


def record(root: Path, lr: float, losses: list[float]) -> None:
    for seed, loss in enumerate(losses):
        recorded(root / f"lr{lr}-s{seed}", story(loss), config=tiny(f"optim.lr={lr}", f"train.seed={seed}"))


def compared(root: Path, *names: str) -> list[GroupComparison]:
    return compare_groups([row_of(root / name, name) for name in names])


def test_other_seeds_in_the_folder_take_part(tmp_path: Path) -> None:
    record(tmp_path, 0.1, [1.0, 1.1, 1.05])
    record(tmp_path, 0.2, [0.5, 0.6, 0.55])
    [comparison] = compared(tmp_path, "lr0.1-s0", "lr0.2-s1")
    assert set(comparison.baseline.seeds) == {0, 1, 2} and comparison.group.runs[0].name == "lr0.2-s1"
    assert [(at.axis, at.amount, at.verdict.outcome) for at in comparison.at] == [
        ("steps", 8, "better"),
        ("tokens", 160, "better"),
        ("seconds", 4.0, "better"),
    ]
    assert comparison.metric == "val_loss"
    assert comparison.part is not None and comparison.part.runs == ("lr0.1-s0", "lr0.2-s0"), "the same seed"


def test_unfinished_changed_and_repeated_runs_are_no_further_seeds(tmp_path: Path) -> None:
    record(tmp_path, 0.1, [1.0])
    record(tmp_path, 0.2, [1.0])
    for name, seed, events in (
        ("unfinished", 1, story(1.0, ends=False)),
        ("changed", 2, story(1.0, change_at=3)),
        ("repeated", 0, story(1.0)),
    ):
        recorded(tmp_path / name, events, config=tiny("optim.lr=0.1", f"train.seed={seed}"))
    [comparison] = compared(tmp_path, "lr0.1-s0", "lr0.2-s0")
    assert len(comparison.baseline.runs) == 1
    assert comparison.baseline.left_out.keys() == {"unfinished", "repeated"}
    assert {at.verdict.outcome for at in comparison.at} == {"one_seed"}
    [with_change] = compared(tmp_path, "lr0.1-s0", "changed")
    assert with_change.group.runs[0].name == "changed", "a live change makes another group"


def test_runs_that_differ_only_in_their_seed_are_not_compared(tmp_path: Path) -> None:
    record(tmp_path, 0.1, [1.0, 1.1])
    assert compared(tmp_path, "lr0.1-s0", "lr0.1-s1") == []


def test_losses_of_different_tasks_are_not_compared(tmp_path: Path) -> None:
    record(tmp_path, 0.1, [1.0])
    recorded(tmp_path / "longer", story(1.0), config=tiny("data.length=4", "model.context=16"))
    recorded_script(tmp_path / "script")
    for other, key in (("longer", "data.length"), ("script", "command")):
        [comparison] = compared(tmp_path, "lr0.1-s0", other)
        assert key in comparison.problem and not comparison.at


def test_seeds_of_a_script_are_captured_settings(tmp_path: Path) -> None:
    for seed in (1, 2):
        for rate in (0.1, 0.2):
            config = script_config(seed=seed, rate=rate, run_name=f"{seed}")
            recorded_script(tmp_path / f"{rate}-{seed}", config=config)
    [comparison] = compared(tmp_path, "0.1-1", "0.2-1")
    assert (comparison.baseline.seeds, comparison.group.seeds) == ([1, 2], [1, 2])


def test_train_loss_is_compared_unless_every_run_was_evaluated(tmp_path: Path) -> None:
    record(tmp_path, 0.1, [1.0])
    recorded(tmp_path / "short", [STARTED, update(1), update(2)], config=tiny("optim.lr=0.2"))
    [comparison] = compared(tmp_path, "lr0.1-s0", "short")
    assert comparison.metric == "train_loss" and comparison.at[0].amount == 2


def course(*steps: int, seconds: float = 1.0) -> Course:
    """A course evaluated at these steps, whose losses are the steps."""
    return Course(evaluations=[MeasuredValue(step, 10 * step, seconds * step, float(step)) for step in steps])


@pytest.mark.parametrize(
    ("a", "b", "steps"),
    [
        (course(100, 200, 300), course(100, 200), (200, 200)),
        (course(100, 200, 300), course(150, 300), (300, 300)),
        (course(100, 200, 400), course(150, 300), (200, 300)),
        (course(10, 1000), course(10, 900), (10, 900)),
    ],
)
def test_equal_steps_are_shared_evaluations_or_the_last_ones_until_then(
    a: Course, b: Course, steps: tuple[int, int]
) -> None:
    at = at_equal("steps", [a], [b], "val_loss")
    assert at is not None and (at.baseline[0].steps, at.group[0].steps) == steps


def test_equal_time_gives_the_slower_run_fewer_steps() -> None:
    at = at_equal("seconds", [course(100, 200, 300)], [course(100, 200, 300, seconds=2.0)], "val_loss")
    assert at is not None and (at.amount, at.baseline[0].steps, at.group[0].steps) == (200, 200, 100)
    assert at_equal("seconds", [course(1)], [replace(course(), smoothed=[])], "val_loss") is None

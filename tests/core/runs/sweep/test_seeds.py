"""A sweep stands for its trials, those of each point together."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.core.recorded import STARTED, evaluated, recorded, update
from tests.core.tiny import tiny
from tui_lab.core import events as ev
from tui_lab.core.runs.catalog import RunRow
from tui_lab.core.runs.sweep.folder import Plan, Result, Sweep, create_sweep
from tui_lab.core.runs.sweep.search_space import Values
from tui_lab.core.runs.sweep.seeds import MOST_POINTS, done_points, sweep_folder
from tui_lab.runs.columns import Column, figures_of
from tui_lab.runs.comparing import compare
from tui_lab.util.errors import RunError

PLAN = Plan(name="tiny", base=tiny().model_dump(mode="json"), over={}, points=(), metric="val_loss", seeds=2)


def sweep_of(path: Path, *points: Values, done: int) -> Sweep:
    """A sweep whose first `done` trials are done."""
    sweep = create_sweep(replace(PLAN, points=points), path)
    for number in range(done):
        recorded(sweep.folder(number), config=sweep.plan.config(number))
        sweep.write_result(number, Result("done", 1.0))
    return sweep


def seeds(n: int) -> list[Values]:
    return [{"train.seed": seed} for seed in range(n)]


def test_sweep_over_seeds_stands_for_its_trials_that_are_done(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path / "sweep", *seeds(3), done=2)
    assert sweep_folder(str(sweep.path)) == sweep.path
    [point] = done_points(sweep.path)
    assert point.label == "" and [run.path for run in point.runs] == [sweep.folder(0), sweep.folder(1)]


@pytest.fixture
def two_sweeps(tmp_path: Path) -> list[str]:
    """The paths of sweeps over 3 seeds, with validation losses of 1, 1.01, 1.02 and 2, 2.01, 2.02."""
    names = []
    for lr in (0.1, 0.2):
        plan = replace(PLAN, base=tiny(f"optim.lr={lr}").model_dump(mode="json"), points=tuple(seeds(3)))
        sweep = create_sweep(plan, tmp_path / f"sweep-{lr}")
        for number in range(3):
            story = [STARTED, update(1), evaluated(8, 10 * lr + 0.01 * number)]
            recorded(sweep.folder(number), [*story, ev.Stopped(step=8, reason="done")], config=plan.config(number))
            sweep.write_result(number, Result("done", 1.0))
        names.append(str(sweep.path))
    return names


def test_two_sweeps_over_seeds_are_compared_with_an_interval(two_sweeps: list[str]) -> None:
    [comparison] = compare(two_sweeps, None).verdicts
    assert [len(group.runs) for group in (comparison.baseline, comparison.group)] == [3, 3]
    interval = comparison.at[0].verdict.interval
    assert interval is not None and 0.9 < interval.low < 1.0 < interval.high < 1.1


def test_sweep_over_seeds_is_one_column_beside_others(two_sweeps: list[str], tmp_path: Path) -> None:
    alone = recorded(tmp_path / "alone", config=tiny("optim.lr=0.1", "train.seed=3"))
    comparison = compare([*two_sweeps, str(alone.path)], None)
    results, settings = comparison.sections()[:2]
    assert results.columns == settings.columns == ["sweep-0.1 (3 seeds)", "sweep-0.2 (3 seeds)", "alone"]
    assert results.lines is not None and settings.lines is not None
    assert results.lines["val loss"][:2] == ["1.01 ± 0.01", "2.01 ± 0.01"]
    assert results.lines["steps"][:2] == ["1", "1"] and results.lines["state"] == ["done"] * 3
    assert settings.lines["optim.lr"] == ["0.1", "0.2", "0.1"]
    assert settings.lines["train.seed"] == ["0, 1, 2", "0, 1, 2", "3"]
    assert "sweep-0.2 (3 seeds: 0, 1, 2) against sweep-0.1 (4 seeds: 0, 1, 2, 3)" in comparison.verdict_text()
    assert len(comparison.to_json()["runs"]) == 7


def test_columns_do_not_show_seeds_that_both_sweeps_have(two_sweeps: list[str]) -> None:
    settings = compare(two_sweeps, None).sections()[1]
    assert settings.lines is not None and list(settings.lines) == ["optim.lr"]


def test_trials_of_one_sweep_are_columns(two_sweeps: list[str]) -> None:
    results = compare(two_sweeps[:1], None).sections()[0]
    assert len(results.columns) == 3


def test_figures_of_unequal_trials_say_so() -> None:
    done = RunRow(path=Path("a"), name="a", created=0.0, state="done", steps=8, val_loss=1.0)
    failed = replace(done, name="b", state="failed", val_loss=None)
    figures = figures_of([Column("seeds", (done, failed))])
    assert figures["state"] == ["1 done, 1 failed"] and figures["val loss"] == ["–"] and figures["steps"] == ["8"]


def test_run_is_no_sweep(tmp_path: Path) -> None:
    assert sweep_folder(str(recorded(tmp_path / "run").path)) is None


def test_points_of_a_sweep_are_compared_over_their_seeds(tmp_path: Path) -> None:
    points: list[Values] = [{"optim.lr": lr, "model.dropout": 0.0} | seed for lr in (0.1, 0.2) for seed in seeds(2)]
    sweep = sweep_of(tmp_path / "sweep", *points, done=4)
    alone = compare([str(sweep.path)], None)
    assert [(column.name, len(column.rows)) for column in alone.columns] == [("lr=0.1", 2), ("lr=0.2", 2)]
    assert [len(verdict.group.runs) for verdict in alone.verdicts] == [2]
    other = recorded(tmp_path / "other", config=tiny("optim.lr=0.3"))
    beside = compare([str(other.path), str(sweep.path), str(sweep.folder(3))], None)
    assert [column.name for column in beside.columns] == ["other", "sweep/lr=0.1", "sweep/lr=0.2"]


def test_sweep_with_too_many_points_is_refused(tmp_path: Path) -> None:
    points: list[Values] = [{"optim.lr": 0.1 + 0.1 * n} for n in range(MOST_POINTS + 1)]
    sweep = sweep_of(tmp_path / "sweep", *points, done=MOST_POINTS)
    assert len(done_points(sweep.path)) == MOST_POINTS
    recorded(sweep.folder(MOST_POINTS), config=sweep.plan.config(MOST_POINTS))
    sweep.write_result(MOST_POINTS, Result("done", 1.0))
    with pytest.raises(RunError) as caught:
        done_points(sweep.path)
    assert caught.value.code == "too_large"


def test_sweep_without_a_trial_that_is_done_is_refused(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path / "sweep", *seeds(2), done=0)
    with pytest.raises(RunError) as caught:
        done_points(sweep.path)
    assert caught.value.code == "not_found"


def test_runs_that_do_not_fit_beside_each_other_are_in_several_tables(two_sweeps: list[str]) -> None:
    comparison = compare(two_sweeps, None)
    (_, wide), (_, narrow) = (comparison.tables(width)[0] for width in (200, 50))
    assert [len(table.columns) for table in wide] == [3] and [len(table.columns) for table in narrow] == [2, 2]
    assert {len(table.rows) for table in (*wide, *narrow)} == {len(wide[0].rows)}

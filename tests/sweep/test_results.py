"""Verdict, groups, curves and tables of a sweep."""

from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

from tests.core.runs.test_folder import finished_run as made_run
from tui_lab.core.runs.sweep import folder as sweeps
from tui_lab.core.runs.sweep import plan as planning
from tui_lab.core.runs.sweep.folder import Result, Sweep, SweepCheck, TrialRow
from tui_lab.runs.figures import figure_text
from tui_lab.sweep import results, table


def new_sweep(path: Path, *over: str, seeds: int = 1, metric: str = "val_loss") -> Sweep:
    options = {"seeds": seeds, "metric": metric}
    return sweeps.create_sweep(planning.plan("reverse", [], over, options), path)


def row(number: int, values: dict[str, object], value: float | None, state: sweeps.State = "done") -> TrialRow:
    return TrialRow(number, values, state, Path("nowhere"), Result(state, value))


def shown(what: Table, width: int = 120) -> str:
    console = Console(width=width, no_color=True)
    with console.capture() as capture:
        console.print(what)
    return capture.get()


@pytest.mark.parametrize(
    ("metric", "sound", "worst", "holds"),
    [
        ("train_loss", 0.1, 2.0, True),
        ("train_loss", 2.0, 0.1, False),
        ("exact_match", 0.9, 0.1, True),
        ("train_loss", 1.0, 1.0, True),
    ],
)
def test_verdict_names_the_end_that_learns_better(
    metric: str, sound: float, worst: float, holds: bool, tmp_path: Path
) -> None:
    plan = replace(
        new_sweep(tmp_path / "s", "model.dropout=0.0,1.0", metric=metric).plan,
        check=SweepCheck("model.dropout", 0.0, 1.0),
    )
    verdict = results.verdict(plan, [row(0, {"model.dropout": 0.0}, sound), row(1, {"model.dropout": 1.0}, worst)])
    assert verdict is not None and verdict.holds is holds
    values = f"{figure_text(metric, worst)} vs {figure_text(metric, sound)}"
    assert ("does not learn better" in verdict.text) is holds and values in verdict.text
    undecided = results.verdict(
        plan, [row(0, {"model.dropout": 0.0}, sound), row(1, {"model.dropout": 1.0}, None, "failed")]
    )
    assert undecided is not None and undecided.holds is None


def test_groups_are_sorted_by_their_mean(tmp_path: Path) -> None:
    sweep = new_sweep(tmp_path / "s", "optim.lr=0.1,0.2", seeds=2)
    for number, value in enumerate([3.0, 1.0, 1.0, 2.0]):
        sweep.write_result(number, Result("done", value))
    first, second = results.groups(sweep.plan, sweep.rows())
    assert (first.values, first.mean, second.mean) == ({"optim.lr": 0.2}, 1.5, 2.0)
    assert first.deviation == pytest.approx(0.5**0.5)
    sweep.write_result(3, Result("failed", message="x"))
    assert results.groups(sweep.plan, sweep.rows())[0].mean == 1.0
    assert "0.2" in shown(table.group_table(sweep.plan, [first, second]))


def test_curves_are_means_over_seeds(tmp_path: Path) -> None:
    sweep = new_sweep(tmp_path / "s", "optim.lr=0.01,0.02", seeds=2, metric="train_loss")
    for number in range(3):
        run = made_run(sweep.folder(number), f"train.seed={number % 2}")
        sweep.write_result(number, Result("done", 1.0, summary=run.summary()))
    sweep.write_result(3, Result("failed", message="diverged"))
    curves = results.curves(sweep.plan, sweep.rows(), "train_loss")
    assert list(curves) == ["lr=0.01", "lr=0.02"]
    one, two = (results.curve(row, "train_loss")[1] for row in sweep.rows()[:2])
    assert curves["lr=0.01"][1] == pytest.approx([(a + b) / 2 for a, b in zip(one, two, strict=True)])
    assert curves["lr=0.02"] == results.curve(sweep.rows()[2], "train_loss")
    paths = results.save_pictures(sweep, curves, "train_loss")
    assert "mean of 2 seeds" in paths[0].read_text("utf-8")


def test_live_table_fits_the_terminal_and_shows_running_trials(tmp_path: Path) -> None:
    sweep = new_sweep(tmp_path / "s", "train.seed=" + ",".join(str(i) for i in range(100)))
    for number in range(50):
        sweep.write_result(number, Result("done", 1.0))
    with sweep.lock(sweeps.trial_lock(70)):
        rows = sweep.rows()
    for height in (10, 24, 120):
        text = shown(table.live_table(sweep.plan, rows, height))
        assert len(text.splitlines()) <= height and "running" in text
        assert "50 done, 1 running, 49 waiting of 100 trials" in text


def test_values_stay_on_one_line_in_80_columns(tmp_path: Path) -> None:
    plan = new_sweep(tmp_path / "s", "optim.lr=0.003,0.01", "model.dropout=0.0,0.1", metric="exact_match").plan
    trials = [row(n, {"optim.lr": 0.003, "model.dropout": 0.1}, 0.5) for n in range(2)]
    lines = shown(table.trial_table(plan, trials, sparks={0: "█" * 12, 1: "▁" * 12}), width=60).splitlines()
    assert sum("0.003" in line and "0.1" in line for line in lines) == 2


def test_progress_of_a_running_trial_is_read_from_its_event_log(tmp_path: Path) -> None:
    sweep = new_sweep(tmp_path / "s", "optim.lr=0.01,0.02")
    run = made_run(sweep.folder(0), "train.steps=8")
    with sweep.lock(sweeps.trial_lock(0)):
        [running, waiting] = sweep.rows()
    with (run.path / "events.jsonl").open("a") as out:
        out.write('{"event": "st')
    summary = run.summary()
    figures = table.progress(running)
    assert summary is not None and (figures.steps, figures.train_loss) == (8, summary.train_loss)
    assert figures.steps_per_s and figures.val_loss == summary.val_loss
    assert table.progress(waiting) == table.TrialFigures()


def test_sparklines_have_one_scale() -> None:
    assert table.sparkline([1.0, 2.0, 3.0], 1.0, 3.0) == "▁▅█"
    assert table.sparkline([1.0, 10.0, 100.0], 1.0, 100.0) == "▁▅█", "decades are logarithmic"
    assert table.sparkline([2.0], 1.0, 3.0) == "▅" and table.sparkline([], 1.0, 3.0) == ""
    assert len(table.sparkline([float(i) for i in range(1000)], 0.0, 1000.0)) == table.SPARK_COLUMNS
    assert table.sparkline([1.0, float("nan"), 3.0], 1.0, 3.0) == "▁█"

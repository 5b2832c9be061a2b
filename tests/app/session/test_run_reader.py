"""Reading the runs folder in a thread, and the curves of its runs."""

from pathlib import Path

import pytest

from tests.app.run_folders import folder
from tests.core.recorded import update
from tui_lab.app.session import run_reader
from tui_lab.app.session.run_curves import CurveFile
from tui_lab.app.session.run_reader import SECONDS_BETWEEN_READINGS, RunReader
from tui_lab.core.runs import folder as runs


def test_curves_are_read_again_only_when_the_event_log_changes() -> None:
    run = folder("good", 0.25)
    file = CurveFile()
    first = file.read(run.path)
    assert first.train[-1] == (8.0, 0.25) and first.val == ((8.0, 0.35),) and not first.problem
    assert file.read(run.path) is first
    for _ in run.record([update(9, 0.2)]):
        pass
    assert file.read(run.path).train[-1] == (9.0, 0.2)
    (run.path / "digest.json").unlink()
    (run.path / "events.jsonl").write_text("no json\n", "utf-8")
    assert "line 1" in file.read(run.path).problem
    assert file.read(run.path / "nowhere").problem


def reading(reader: RunReader, *paths: Path) -> run_reader.Reading | None:
    """Poll, wait for the thread if one has started, and poll again."""
    assert reader.poll(paths) is None
    reader.join()
    return reader.poll(paths)


def test_reader_returns_rows_and_curves_at_intervals_or_on_demand() -> None:
    run = folder("good", 0.25)
    now = [0.0]
    reader = RunReader(runs.runs_folder(), lambda: now[0])
    first = reading(reader, run.path)
    assert first is not None and first.rows is not None and [row.name for row in first.rows] == ["good"]
    assert dict(first.curves)[run.path].val == ((8.0, 0.35),)
    assert reading(reader) is None
    reader.read_soon()
    assert reading(reader) is not None
    reader.read_curves_soon()
    curves_only = reading(reader, run.path)
    assert curves_only is not None and curves_only.rows is None and run.path in dict(curves_only.curves)
    now[0] += SECONDS_BETWEEN_READINGS
    assert reading(reader) is not None


def test_reader_reports_what_it_cannot_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(root: Path) -> None:
        raise PermissionError(13, "denied")

    monkeypatch.setattr(run_reader, "find_runs", fail)
    failed = reading(RunReader(runs.runs_folder(), lambda: 0.0))
    assert failed is not None and failed.problem is not None and "denied" in failed.problem

"""The thread that writes a script's run: it continues after any error of an item, and reports what was lost."""

from pathlib import Path
from typing import Any, NoReturn

import pytest

from tests.core.recorded import STARTED, recorded, update
from tui_lab.core import events as ev
from tui_lab.core.runs.folder import Run
from tui_lab.core.runs.summary import Summarizer
from tui_lab.core.watch.event_writer import EventWriter


def broken(*values: Any) -> NoReturn:
    raise TypeError("broken")


def test_job_that_raises_does_not_end_the_writer(tmp_path: Path) -> None:
    run = recorded(tmp_path / "run", [])
    writer = EventWriter(run)
    for item in (STARTED, broken, update(1), ev.Stopped(step=1, reason="done")):
        writer.put(item)
    assert writer.close().steps == 1 and "broken" in writer.problem
    assert [event.kind for event in run.events()] == ["started", "step", "stopped"]


@pytest.mark.parametrize("part", [Run, Summarizer])
def test_writer_that_cannot_go_on_still_takes_items(
    part: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = recorded(tmp_path / "run", [])
    ran: list[bool] = []

    def job() -> None:
        ran.append(True)

    with monkeypatch.context() as context:
        context.setattr(part, "record" if part is Run else "update", broken)
        writer = EventWriter(run)
        for item in (STARTED, update(1), job):
            writer.put(item)
        writer.close()
    assert "broken" in writer.problem and ran == [True]

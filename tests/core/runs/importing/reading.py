"""Import files in a test: what the steps and evaluations of the run are."""

from collections.abc import Sequence
from pathlib import Path

from tui_lab.core import events as ev
from tui_lab.core.runs.importing.events import events_of
from tui_lab.core.runs.importing.formats import format_of, logs_in
from tui_lab.core.runs.importing.source import ImportSource

SAMPLES = Path(__file__).parent / "samples"


def sources(path: Path, *, number_rows: bool = False, **columns: str) -> list[ImportSource]:
    """The runs in a file or folder. columns: as the user gives them."""
    logs = logs_in(path, format_of(path), columns, number_rows=number_rows)
    return [source for log in logs for source in log.read()]


def written(path: Path, text: str) -> Path:
    path.write_text(text, "utf-8")
    return path


def events(path: Path, *, number_rows: bool = False, **columns: str) -> list[ev.Event]:
    """The events of the only run in a file or folder."""
    [source] = sources(path, number_rows=number_rows, **columns)
    return list(events_of(source))


def steps(found: Sequence[ev.Event]) -> list[ev.StepDone]:
    return [event for event in found if isinstance(event, ev.StepDone)]


def evaluations(found: Sequence[ev.Event]) -> list[ev.Evaluated]:
    return [event for event in found if isinstance(event, ev.Evaluated)]


def logged(found: Sequence[ev.Event]) -> list[ev.Logged]:
    return [event for event in found if isinstance(event, ev.Logged)]

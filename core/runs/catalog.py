"""The catalog of runs: one row per run folder, without reading whole event logs.

The user's notes on a run are in its `notes.json`.
"""

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple

from tui_lab.core.config import script
from tui_lab.core.config.schema import Config
from tui_lab.core.config.script import RunConfig
from tui_lab.core.events import Changed, Started, is_without_steps
from tui_lab.core.runs.event_log import read_events
from tui_lab.core.runs.folder import Run
from tui_lab.core.runs.lock import in_use
from tui_lab.core.runs.run_files import CONFIG, NOTES
from tui_lab.core.runs.summary import EndReason, Summarizer, Summary, summarize, summarize_log
from tui_lab.util import files
from tui_lab.util.errors import ConfigError, RunError
from tui_lab.util.lazy_adapter import LazyAdapter
from tui_lab.util.strict_json import dumps

DEPTH = 4
"""Levels of folders below the root that are searched: a sweep's trials are two deep."""
TAIL = 2**18
"""Bytes read from the end of the event log of a run without a summary."""
FIRST_EVENTS = 100
"""Events at the start of an event log among which Started is: a script may log or be warned before it."""
NOTES_LIMIT = 2**16
"""Bytes of a notes.json, at most."""
RunState = EndReason | Literal["running", "paused", "no-steps", "damaged"]
_TAG = re.compile(r"[^\s,]{1,40}")


@dataclass(frozen=True)
class RunRow:
    """One run as a row. None: not known. created: POSIX seconds; metric: of `metric_name`, exact match from 0 to 1.

    changes: the settings that were changed while it trained; `config` has those of its start.
    state: how the run ended; "running" or "paused" where a process holds it now; "no-steps" for a script that ended by
    itself without one; "damaged" where it cannot be read, and `problem` is the reason.
    message: why the run failed or has no steps, if that is known.
    """

    path: Path
    name: str
    created: float
    state: RunState
    steps: int = 0
    train_loss: float | None = None
    val_loss: float | None = None
    best_val_loss: float | None = None
    best_step: int | None = None
    metric_name: str | None = None
    metric: float | None = None
    n_parameters: int | None = None
    seconds: float | None = None
    tags: tuple[str, ...] = ()
    note: str = ""
    config: RunConfig | None = None
    problem: str = ""
    message: str = ""
    changes: tuple[Changed, ...] = ()

    def setting(self, key: str) -> Any:
        """Return the value of a setting at the end of the run.

        None where it is not known or the run does not have it.
        """
        if self.config is None:
            return None
        latest = next((change.new for change in reversed(self.changes) if change.key == key), None)
        at_end = script.find(self.config, key) if latest is None else latest
        return tuple(at_end) if isinstance(at_end, list) else at_end

    @property
    def kind(self) -> Literal["trainer", "script", "imported"] | None:
        """What recorded the run: our trainer, or the recorder of a script; or that it was imported."""
        if self.config is None:
            return None
        return "trainer" if isinstance(self.config, Config) else self.config.kind


@dataclass(frozen=True)
class Notes:
    """The user's tags and note on a run."""

    tags: tuple[str, ...] = ()
    note: str = ""


_NOTES: LazyAdapter[Notes] = LazyAdapter(Notes)


def find_runs(root: Path) -> list[RunRow]:
    """Return the runs in `root` and below, or `root` itself where it is one; the oldest first.

    A link to a run folder is a row, but links are not searched for runs. A damaged run is a row too, never an error.
    """
    if (root / CONFIG).is_file():
        return [row_of(root, root.name or str(root))]
    rows = [row_of(path, path.relative_to(root).as_posix()) for path in run_folders(root)]
    return sorted(rows, key=lambda row: (row.created, row.name))


def run_folders(root: Path, depth: int = DEPTH) -> Iterator[Path]:
    """Yield every run folder below `root`, at most `depth` levels deep; unreadable folders are skipped."""
    try:
        entries = sorted(os.scandir(root), key=lambda entry: entry.name)
    except OSError:
        return
    for entry in entries:
        if not entry.is_dir() or entry.name.startswith("."):
            continue
        path = root / entry.name
        if (path / CONFIG).is_file():
            yield path
        if depth > 1 and entry.name != "checkpoints" and not entry.is_symlink():
            yield from run_folders(path, depth - 1)


def row_of(path: Path, name: str) -> RunRow:
    """Return the row of one run folder."""
    run = Run(path)
    notes = read_notes(path)
    try:
        created = (path / CONFIG).stat().st_mtime
    except OSError:
        created = 0.0
    try:
        config = run.config()
        is_live = in_use(path) is not None  # Before its events, among which is then how it ended.
        summary, seconds, is_paused, changes = _progress(run)
        state: RunState = ("paused" if is_paused else "running") if is_live else final_state(summary)
    except (ValueError, TypeError, OSError) as error:
        problem = (str(error) or type(error).__name__).splitlines()[0]
        return RunRow(path, name, created, "damaged", tags=notes.tags, note=notes.note, problem=problem)
    metric_name = next((name for name in ("exact_match", "perplexity") if summary.metric(name) is not None), None)
    return RunRow(
        path,
        name,
        created,
        state=state,
        steps=summary.steps,
        train_loss=summary.train_loss,
        val_loss=summary.val_loss,
        best_val_loss=summary.best_val_loss,
        best_step=summary.best_step,
        metric_name=metric_name,
        metric=None if metric_name is None else summary.metric(metric_name),
        n_parameters=summary.parameters,
        seconds=seconds,
        tags=notes.tags,
        note=notes.note,
        config=config,
        message=summary.message,
        changes=tuple(changes),
    )


def final_state(summary: Summary) -> RunState:
    """Return how a run ended."""
    return "no-steps" if is_without_steps(summary.reason, has_steps=bool(summary.steps)) else summary.reason


class _Progress(NamedTuple):
    """How far a run is. seconds: those of its steps; None where they are not known."""

    summary: Summary
    seconds: float | None
    is_paused: bool
    changes: Sequence[Changed]


def _progress(run: Run) -> _Progress:
    """Return how far a run is.

    From summary.json where it is as new as the event log; otherwise from the downsampled log and the last events.
    """
    if (summary := run.current_summary()) is not None:
        changes = _changes(run) if summary.changes else []
        return _Progress(summary, summary.train_seconds if summary.has_time else None, False, changes)
    summarizer, is_complete = _summarize_ends(run)
    seconds = summarizer.seconds if is_complete else None
    return _Progress(summarizer.summary(str(run.path)), seconds, summarizer.is_paused, summarizer.changes)


def _changes(run: Run) -> Sequence[Changed]:
    """Return the live changes of a run.

    Empty where its events cannot be read, since its summary can be shown all the same.
    """
    try:
        return run.log.changes()
    except (RunError, OSError):
        return []


def _summarize_ends(run: Run) -> tuple[Summarizer, bool]:
    """Return a summarizer of the downsampled log and the end of the event log, and whether these are all events."""
    log = run.log
    downsampled, offset = log.stored_downsampled()
    start = max(offset, log.size() - TAIL)
    is_complete = start == offset
    summarizer = summarize_log(downsampled)
    if not is_complete and not offset:
        # Without a downsampled log, one of the first events still has the number of parameters.
        first = (event for event in islice(log.read(), FIRST_EVENTS) if isinstance(event, Started))
        summarizer = summarize(islice(first, 1))
    for event in read_events(log.path, start, mid_line=not is_complete):
        summarizer.update(event)
    return summarizer, is_complete


def read_notes(folder: Path) -> Notes:
    """Return the user's notes on a run; empty where notes.json is missing or damaged."""
    try:
        return _NOTES.validate_json(files.read_text(folder / NOTES, NOTES_LIMIT))
    except (OSError, ValueError):
        return Notes()


def write_notes(folder: Path, tags: Sequence[str], note: str) -> None:
    """Replace the notes on a run; repeated tags are written once.

    Raises ConfigError for a malformed tag or a note that is too long, RunError where the file cannot be written.
    """
    for tag in tags:
        if not (_TAG.fullmatch(tag) and tag.isprintable()):
            raise ConfigError.of(
                "invalid", "must be 1 to 40 characters without spaces and commas", key="tag", value=tag
            )
    text = dumps({"tags": list(dict.fromkeys(tags)), "note": note}, indent=1) + "\n"
    if len(text) > NOTES_LIMIT:
        raise ConfigError.of(
            "too_large",
            f"the notes of {folder.name} would take {len(text):,} bytes",
            key="note",
            allowed=f"at most {NOTES_LIMIT:,} bytes",
        )
    try:
        files.write_text(folder / NOTES, text)
    except OSError as error:
        raise RunError.of("unwritable", f"not written: {error.strerror}", key=str(folder / NOTES)) from error


def config_differences(rows: Iterable[RunRow]) -> dict[str, list[Any]]:
    """Return the settings that differ between the rows.

    Per dotted key there is a value for each row, None where it is not known.

    Runs of our trainer have other settings than those of scripts. What only one of the two kinds has differs where it
    does between runs of that kind.
    """
    rows = list(rows)
    values = [{} if row.config is None else script.known_values(row.config) for row in rows]
    different = {}
    for key in dict.fromkeys(key for one in values for key in one):
        kinds = {row.kind for row, one in zip(rows, values, strict=True) if key in one} | {None}
        compared = [one.get(key) for row, one in zip(rows, values, strict=True) if row.kind in kinds]
        # NaN is not equal to itself.
        if any(value != compared[0] and repr(value) != repr(compared[0]) for value in compared):
            different[key] = [one.get(key) for one in values]
    return different

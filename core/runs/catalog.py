"""The catalogue of runs: what each run folder came to, found without reading whole records.

Notes that a person keeps about a run stand in its `notes.json`.
"""

import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tui_lab.core import events as ev
from tui_lab.core.config import settings
from tui_lab.core.config.schema import Config
from tui_lab.core.runs import downsampled_log as dg
from tui_lab.core.runs.folder import CONFIG, DIGEST, EVENTS, SUMMARY, Run
from tui_lab.core.runs.lock import in_use
from tui_lab.core.runs.summary import Summariser, summarise, summarise_digest
from tui_lab.util import files
from tui_lab.util.errors import ConfigError, RunError
from tui_lab.util.strict_json import dumps

NOTES = "notes.json"
DEPTH = 4
"""Folders below the root that are looked into: a sweep's trials are two deep."""
TAIL = 2**18
"""Bytes read of the end of a record whose run left no summary."""
LINE = 2**20
"""Bytes of one event, at most."""
NOTES_LIMIT = 2**16
"""Bytes of a notes.json, at most."""
_TAG = re.compile(r"[^\s,]{1,40}")


@dataclass(frozen=True)
class RunRow:
    """One run as a row. None: not known. created: POSIX seconds; metric: as `metric_name` says, exact match as a share.

    state: why it stopped ("done", "target", "patience", "asked", "failed"); "training" where a process holds it now;
    "unfinished" where it was killed; "damaged" where it cannot be read, and `problem` says why.
    """

    path: Path
    name: str
    created: float
    state: str
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
    config: Config | None = None
    problem: str = ""


@dataclass(frozen=True)
class Notes:
    tags: tuple[str, ...] = ()
    note: str = ""


def find_runs(root: Path) -> list[RunRow]:
    """The runs in `root` and below, or `root` itself where it is one; the oldest first.

    A link to a run folder is a row; no link is looked into. A run that cannot be read is a row too, never an error.
    """
    if (root / CONFIG).is_file():
        return [row_of(root, root.name or str(root))]
    rows = [row_of(path, path.relative_to(root).as_posix()) for path in run_folders(root)]
    return sorted(rows, key=lambda row: (row.created, row.name))


def run_folders(root: Path, depth: int = DEPTH) -> Iterator[Path]:
    """Every run folder below `root`, `depth` levels deep at most; what may not be read is left out."""
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
    """The row of one run folder."""
    run, notes = Run(path), read_notes(path)
    try:
        created = (path / CONFIG).stat().st_mtime
    except OSError:
        created = 0.0
    try:
        config = read_config(path / CONFIG)
        told, training = _told(run), in_use(path) is not None
    except (ValueError, TypeError, OSError) as error:
        problem = (str(error) or type(error).__name__).splitlines()[0]
        return RunRow(path, name, created, "damaged", tags=notes.tags, note=notes.note, problem=problem)
    named = next((key for key in ("exact_match", "perplexity") if told[key] is not None), None)
    return RunRow(
        path, name, created,
        state="training" if training else told["reason"],
        steps=told["steps"],
        train_loss=told["train_loss"],
        val_loss=told["val_loss"],
        best_val_loss=told["best_val_loss"],
        best_step=told["best_step"],
        metric_name=named,
        metric=None if named is None else told[named],
        n_parameters=told["parameters"],
        seconds=told["train_seconds"],
        tags=notes.tags,
        note=notes.note,
        config=config,
    )  # fmt: skip


def read_config(path: Path) -> Config:
    """A config.toml, as it stands. Raises ConfigError or OSError."""
    return settings.build(settings.read_tables(str(path)))


def _told(run: Run) -> dict[str, Any]:
    """The summary where it is as young as the record; else one made from the digest and the end of the record."""
    found = run.summary() if _time(run.path / SUMMARY) >= _time(run.path / EVENTS) else None
    if found is None:
        seen = _recent(run)
        found = seen.summary(str(run.path)) | ({} if seen.seconds else {"train_seconds": None})
    nothing = Summariser().summary(str(run.path))
    return nothing | {key: value for key, value in found.items() if _is_sound(key, value)}


def _is_sound(key: str, value: Any) -> bool:
    """Whether a value is of its kind: a file that was tampered with must not end a listing."""
    if key in ("event", "run", "reason"):
        return isinstance(value, str)
    return value is None and key != "steps" or isinstance(value, int | float) or key == "faults"


def _time(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _recent(run: Run) -> Summariser:
    """A summariser that has seen the digest, and of what the digest does not tell the first event and the last ones."""
    record = run.path / EVENTS
    digest, offset = dg.read(run.path / DIGEST)
    size = record.stat().st_size if record.exists() else 0
    if offset > size or not _ends_line(record, offset):
        digest, offset = dg.Digest(), 0
    start = max(offset, size - TAIL)
    skipped = start > offset
    seen = summarise(_events(record, 0, 1)) if skipped and not offset else summarise_digest(digest)
    for event in _events(record, start, None, torn=skipped):
        seen.watch(event)
    if skipped:
        seen.seconds = 0.0
    return seen


def _ends_line(record: Path, offset: int) -> bool:
    if offset == 0:
        return True
    with record.open("rb") as stream:
        stream.seek(offset - 1)
        return stream.read(1) == b"\n"


def _events(record: Path, start: int, limit: int | None, *, torn: bool = False) -> Iterator[ev.Event]:
    """Events from byte `start` on, `limit` at most. torn: the first line may be half of one. Raises RunError."""
    if not record.exists():
        return
    with record.open("rb") as stream:
        stream.seek(start)
        if torn:
            stream.readline()
        for number, line in enumerate(iter(lambda: stream.readline(LINE), b"")):
            if number == limit or not line.endswith(b"\n"):
                return
            try:
                yield ev.from_json(json.loads(line))
            except ValueError as error:
                raise RunError(f"{record}, after byte {start}: {error}") from error


def read_notes(folder: Path) -> Notes:
    """What a person noted about a run; nothing where notes.json is absent or is not one of ours."""
    try:
        with (folder / NOTES).open("rb") as stream:
            found = json.loads(stream.read(NOTES_LIMIT))
        tags, note = found.get("tags", []), found.get("note", "")
    except (OSError, ValueError, AttributeError):
        return Notes()
    tags = tags if isinstance(tags, list) else []
    return Notes(tuple(tag for tag in tags if isinstance(tag, str)), note if isinstance(note, str) else "")


def write_notes(folder: Path, tags: Sequence[str], note: str) -> None:
    """Replace what is noted about a run; each tag once, in their order.

    Raises ConfigError for a tag that is none or a note too long, RunError where it cannot be written.
    """
    for tag in tags:
        if not (_TAG.fullmatch(tag) and tag.isprintable()):
            raise ConfigError([f"tag {tag!r}: allowed are 1 to 40 characters without spaces and commas"])
    text = dumps({"tags": list(dict.fromkeys(tags)), "note": note}, indent=1) + "\n"
    if len(text) > NOTES_LIMIT:
        raise ConfigError([f"the notes of {folder.name} would take {len(text):,} bytes; allowed are {NOTES_LIMIT:,}"])
    try:
        files.write_text(folder / NOTES, text)
    except OSError as error:
        raise RunError(f"{folder / NOTES}: not written: {error.strerror}") from error


def config_differences(rows: Iterable[RunRow]) -> dict[str, list[Any]]:
    """The settings that are not the same in all rows, by dotted key: a value a row, None where its config is not
    readable."""
    configs = [row.config for row in rows]
    found = {
        key: [None if config is None else settings.get(config, key) for config in configs] for key in settings.fields()
    }
    return {key: values for key, values in found.items() if any(value != values[0] for value in values)}

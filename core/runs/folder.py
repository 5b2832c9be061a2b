"""Run folders: config.toml, tokenizer.json, events.jsonl and its digest.json, summary.json, checkpoints/.

The consumer of the events writes them, so a headless and an interactive run leave the same folder."""

import contextlib
import json
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from tui_lab.core import events as ev
from tui_lab.core.config import settings
from tui_lab.core.config.schema import Config
from tui_lab.core.runs.downsampled_log import Digest
from tui_lab.core.runs.event_log import Record
from tui_lab.core.runs.lock import HOLDER, LOCK, Lock, take
from tui_lab.core.runs.summary import from_json
from tui_lab.util import files
from tui_lab.util.errors import DataError, RunError, nearest, shortened
from tui_lab.util.strict_json import dumps, loads

# Runs are listed before torch and numpy are there: what needs them is imported by the method that does.
if TYPE_CHECKING:
    from tui_lab.core.training.checkpoint import Checkpoint
    from tui_lab.data.tokenizers import Tokenizer

CONFIG, EVENTS, SUMMARY, TOKENIZER = "config.toml", "events.jsonl", "summary.json", "tokenizer.json"
DIGEST, CHECKPOINTS = "digest.json", "checkpoints"
LARGEST_TOKENIZER, LARGEST_SUMMARY = 2**25, 2**20
"""Bytes; a tokenizer that knows every letter of Unicode comes to 2**24."""
T = TypeVar("T")


def runs_folder() -> Path:
    """`TUI_LAB_RUNS`, or runs/ where the person stands."""
    return Path(os.environ.get("TUI_LAB_RUNS") or "runs")


@dataclass(frozen=True)
class Run:
    """One run's folder, which exists."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def checkpoints(self) -> Path:
        return self.path / CHECKPOINTS

    def lock(self) -> Lock:
        """Become the one who records here; what a killed writer left is removed. Raises InUse or RunError."""
        _refuse_links(self.path)
        held = take(self.path)
        files.sweep_temporaries(self.path)
        files.sweep_temporaries(self.checkpoints)
        return held

    def config(self) -> Config:
        return settings.load(str(self.path / CONFIG))

    def tokenizer(self) -> "Tokenizer":
        """Raises RunError when tokenizer.json is damaged."""
        from tui_lab.data.tokenizers import from_state

        try:
            return from_state(loads(files.read_text(self.path / TOKENIZER, LARGEST_TOKENIZER)))
        except (OSError, ValueError, DataError) as error:
            raise RunError(f"{self.path / TOKENIZER}: not readable: {error}") from error

    def latest(self) -> Path:
        """The newest checkpoint. Raises RunError when there is none."""
        found = self._saved()
        if not found:
            raise RunError(f"{self.path}: this run has no checkpoint yet")
        return found[-1]

    @property
    def has_checkpoint(self) -> bool:
        return bool(self._saved())

    def _saved(self) -> list[Path]:
        # What is named like a checkpoint and is a link leads to something that this run did not write.
        return sorted(path for path in self.checkpoints.glob("step-*") if path.is_dir() and not path.is_symlink())

    def read_latest(self, read: Callable[[Path], T]) -> T:
        """`read` of the newest checkpoint; of the next one, where a training replaces it meanwhile. Raises RunError."""
        while True:
            path = self.latest()
            try:
                return read(path)
            except RunError:
                if path.exists():
                    raise

    def save(self, checkpoint: "Checkpoint") -> str:
        """Write a checkpoint; its path within the run folder. Raises OSError."""
        from tui_lab.core.training import checkpoint as ckpt

        return str(ckpt.save(self.checkpoints, checkpoint).relative_to(self.path))

    @property
    def _record(self) -> Record:
        return Record(self.path / EVENTS, self.path / DIGEST)

    def events(self) -> Iterator[ev.Event]:
        """The recorded events; a last line torn by a crash is left out. Raises RunError for other damage."""
        return self._record.read()

    def digest(self) -> Digest:
        """The record in bounded size, for drawings and summaries. Raises RunError."""
        return self._record.digest()

    def summary(self) -> dict[str, Any] | None:
        """What the run came to, as `run --json` printed it; None while it is not known or not readable."""
        try:
            return from_json(loads(files.read_text(self.path / SUMMARY, LARGEST_SUMMARY)))
        except (OSError, ValueError):
            return None

    def write_summary(self, summary: dict[str, Any]) -> None:
        files.write_text(self.path / SUMMARY, dumps(summary, indent=1) + "\n")

    def record(self, events: Iterable[ev.Event]) -> Iterator[ev.Event]:
        """Pass events on, each written to events.jsonl first."""
        return self._record.write(events)

    def rewind(self, step: int, seconds: float, saved_at: Path | None = None) -> None:
        """Drop events that the checkpoint `saved_at` of `step`, after updates of `seconds`, does not know of."""
        self._record.rewind(step, seconds, str(saved_at.relative_to(self.path)) if saved_at else "")

    def begin_again(self) -> None:
        """Drop all recorded events: of a run that was killed before its first checkpoint."""
        self._record.clear()


def create(name: str, config: Config, tokenizer: "Tokenizer", out: Path | None = None) -> Run:
    """A new run folder: `out`, or one named after `name` and the time. Raises RunError when `out` is taken."""
    path = out if out is not None else free_path(runs_folder(), name)
    try:
        _refuse_taken(path)
        path.mkdir(parents=True, exist_ok=True)
        held = take(path)
        try:
            _refuse_taken(path)
            files.sweep_temporaries(path)
            # The config last: with it the folder is a run.
            files.write_text(path / TOKENIZER, json.dumps(tokenizer.state()))
            files.write_text(path / CONFIG, settings.to_toml(config))
        finally:
            held.release()
    except (OSError, ValueError) as error:
        if isinstance(error, RunError):
            raise
        why = getattr(error, "strerror", None) or str(error)  # A ValueError: a NUL in the name.
        raise RunError(f"{shortened(str(path))}: a run cannot be written here: {why}") from error
    return Run(path)


def _refuse_taken(path: Path) -> None:
    """Raises RunError for a folder with anything in it but what a creation that was killed leaves."""
    if not path.exists() and not path.is_symlink():
        return
    left = {LOCK, HOLDER, TOKENIZER}
    if path.is_dir() and all(p.name in left or p.name.startswith(files.TEMPORARY) for p in path.iterdir()):
        return
    hint = f"; go on with it by --resume {path}" if (path / CONFIG).exists() else ""
    raise RunError(f"--out {path}: there is something already{hint}")


def _refuse_links(path: Path) -> None:
    """Raises RunError where a part of the run leads out of its folder: nothing is written outside."""
    for name in (CONFIG, EVENTS, SUMMARY, TOKENIZER, DIGEST, CHECKPOINTS):
        if (path / name).is_symlink():
            raise RunError(
                f"{path / name}: it is a link, and a run is written only within its own folder; put a copy here"
            )


def find(name: str) -> Run:
    """The run of a path, or of a name in the runs folder. Raises RunError with the nearest name."""
    for path in (Path(name), runs_folder() / name):
        if settings.is_file(path / CONFIG):
            return Run(path)
    raise RunError.of(
        "unknown_name",
        f"not a run: no {CONFIG} there nor in {shortened(str(runs_folder() / name))}",
        value=name,
        suggestion=nearest(name, [run.name for run in list_runs()], cutoff=0.4),
    )


def list_runs() -> list[Run]:
    """All runs of the runs folder, the oldest first."""
    folder = runs_folder()
    found = [Run(p) for p in folder.iterdir() if (p / CONFIG).is_file()] if folder.is_dir() else []
    return sorted(found, key=lambda run: ((run.path / CONFIG).stat().st_mtime_ns, run.name))


def free_path(folder: Path, name: str) -> Path:
    """A folder of our own in `folder`, named after `name` and the time, made now, so that no other process takes the
    same. Raises RunError."""
    stem = re.sub(r"[^A-Za-z0-9_-]+", "-", Path(name).stem).strip("-")[:100] or "run"
    base = folder / f"{stem}-{time.strftime('%Y%m%d-%H%M%S')}"
    candidates = [base, *(base.with_name(f"{base.name}-{i}") for i in range(2, 10_000))]
    try:
        for path in candidates:
            with contextlib.suppress(FileExistsError):
                path.mkdir(parents=True)
                return path
    except OSError as error:
        raise RunError(f"{folder}: a run cannot be written here: {error.strerror}") from error
    raise RunError(f"{base}: there are ten thousand runs of this name; remove some, or give --out")

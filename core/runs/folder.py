"""Run folders: format.json, config.toml, tokenizer.json, events.jsonl and its digest.json, summary.json, checkpoints/.

The consumer of the events writes them, so a headless and an interactive run leave the same folder.
"""

import contextlib
import glob
import json
import os
import re
import shlex
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from tui_lab.core import events as ev
from tui_lab.core.config import script, settings
from tui_lab.core.config.schema import Config
from tui_lab.core.config.script import ImportedConfig, RunConfig, ScriptConfig
from tui_lab.core.runs import format_version
from tui_lab.core.runs.downsampled_log import DownsampledLog
from tui_lab.core.runs.event_log import EventLog
from tui_lab.core.runs.lock import Lock, take
from tui_lab.core.runs.run_files import (
    BEFORE_CONFIG,
    CHECKPOINTS,
    CONFIG,
    DIGEST,
    EVENTS,
    SUMMARY,
    TOKENIZER,
    refuse_links,
)
from tui_lab.core.runs.summary import Summary, read_summary
from tui_lab.core.training.checkpoint_names import step_of
from tui_lab.core.training.checkpoint_spread import MOST_BYTES
from tui_lab.util import files
from tui_lab.util.errors import ConfigError, DataError, RunError, nearest, shortened
from tui_lab.util.strict_json import dumps, loads

# Listing runs must not import torch and numpy: only the methods that need them import them.
if TYPE_CHECKING:
    from tui_lab.core.runs.row_log import RowLog
    from tui_lab.core.training.checkpoint import Checkpoint
    from tui_lab.data.tokenizers import Tokenizer

SWEEP = "sweep.json"
"""In the folder of a sweep, whose trials are runs two folders below."""
LARGEST_TOKENIZER, LARGEST_SUMMARY = 2**25, 2**20
"""Bytes; a tokenizer with every letter of Unicode needs 2**24."""
T = TypeVar("T")


def runs_folder() -> Path:
    """`TUI_LAB_RUNS`, or runs/ in the current folder."""
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
        """Lock the folder for writing and remove what a killed writer left. Raises InUse or RunError."""
        refuse_links(self.path)
        format_version.require_readable(self.path)
        lock = take(self.path)
        try:
            format_version.update(self.path)
            files.sweep_temporaries(self.path)
            files.sweep_temporaries(self.checkpoints)
        except BaseException as error:
            lock.release()
            if isinstance(error, OSError):
                raise RunError.of("unwritable", files.advice(error), key=str(self.path)) from error
            raise
        return lock

    def config(self) -> RunConfig:
        """Return the config as the run began. Raises ConfigError, or RunError for a format that is newer than ours."""
        format_version.require_readable(self.path)
        return read_config(self.path / CONFIG)

    def trainer_config(self, instead: str = "") -> Config:
        """Return the config of a run of our trainer. Raises RunError for any other; instead: see `refuse_script`."""
        self.refuse_script(instead)
        config = self.config()
        assert isinstance(config, Config)
        return config

    def refuse_script(self, instead: str = "") -> None:
        """Raises RunError for a run without a model that can be built: of a script, or imported.

        instead: what the user can do with the run of a script, by default start the script again.
        """
        try:
            config = self.config()
        except ConfigError:
            return
        refuse_imported(config, self.name)
        if isinstance(config, ScriptConfig):
            instead = instead or f"to train again, start the script: {watch_command(config)}"
            message = f"recorded from a script, and only the script can build its model; {instead}"
            raise RunError.of("unavailable", message, key=self.name)

    def tokenizer(self) -> "Tokenizer":
        """Return the tokenizer of tokenizer.json. Raises RunError when the file is damaged."""
        from tui_lab.data.tokenizers import from_state

        try:
            return from_state(loads(files.read_text(self.path / TOKENIZER, LARGEST_TOKENIZER)))
        except (OSError, ValueError, DataError) as error:
            raise RunError.of("damaged", f"not readable: {error}", key=str(self.path / TOKENIZER)) from error

    def latest(self) -> Path:
        """Return the newest checkpoint. Raises RunError when there is none."""
        return self.checkpoint_at(None)

    def checkpoint_at(self, step: int | None) -> Path:
        """Return the newest checkpoint at or before `step`, or the first one if all are later. None: the newest of all.

        Raises RunError when there is none.
        """
        checkpoints = self.saved_checkpoints()
        if not checkpoints:
            raise RunError.of("not_found", "this run has no checkpoint yet", key=str(self.path))
        before = [path for path in checkpoints if step is None or step_of(path) <= step]
        return before[-1] if before else checkpoints[0]

    @property
    def has_checkpoint(self) -> bool:
        return bool(self.saved_checkpoints())

    def saved_checkpoints(self) -> list[Path]:
        """Return all checkpoints, in the order of their steps."""
        # A link with the name of a checkpoint was not written by this run.
        return sorted(path for path in self.checkpoints.glob("step-*") if path.is_dir() and not path.is_symlink())

    def read_latest(self, read: Callable[[Path], T]) -> T:
        """`read` of the newest checkpoint, again where the trainer replaced it meanwhile. Raises RunError."""
        return self.read_checkpoint(None, read)

    def read_checkpoint(self, step: int | None, read: Callable[[Path], T]) -> T:
        """`read` of `checkpoint_at(step)`, again where the trainer replaced it meanwhile. Raises RunError."""
        while True:
            path = self.checkpoint_at(step)
            try:
                return read(path)
            except RunError:
                if path.exists():
                    raise

    def save(self, checkpoint: "Checkpoint") -> str:
        """Write a checkpoint; its path within the run folder. Raises OSError.

        Trials of a sweep keep few: there may be thousands of them.
        """
        from tui_lab.core.training import checkpoint as ckpt

        spread_bytes = 0 if self.is_trial else MOST_BYTES
        return str(ckpt.save(self.checkpoints, checkpoint, spread_bytes).relative_to(self.path))

    def row_log(self) -> "RowLog":
        """Return the losses of the rows of each update."""
        from tui_lab.core.runs.row_log import MOST_BYTES_OF_TRIAL, RowLog

        return RowLog(self.path, MOST_BYTES_OF_TRIAL) if self.is_trial else RowLog(self.path)

    @property
    def is_trial(self) -> bool:
        """Whether the run is a trial of a sweep."""
        return (self.path.absolute().parent.parent / SWEEP).exists()

    @property
    def log(self) -> EventLog:
        """The event log."""
        return EventLog(self.path / EVENTS, self.path / DIGEST)

    def events(self) -> Iterator[ev.Event]:
        """Return the recorded events, except a last line torn by a crash. Raises RunError for other damage."""
        format_version.require_readable(self.path)
        return self.log.read()

    def downsampled(self) -> DownsampledLog:
        """Return the event log in bounded size, for plots and summaries. Raises RunError."""
        return self.log.downsampled()

    def summary(self) -> Summary | None:
        """Return the summary in summary.json; None where there is none yet or it is damaged."""
        try:
            return read_summary(files.read_text(self.path / SUMMARY, LARGEST_SUMMARY))
        except (OSError, ValueError):
            return None

    def current_summary(self) -> Summary | None:
        """Return the summary in summary.json, unless the event log is newer: then it is that of an earlier session."""
        return self.summary() if _modified(self.path / SUMMARY) >= _modified(self.path / EVENTS) else None

    def write_summary(self, summary: Summary) -> None:
        """Replace summary.json. Raises OSError."""
        files.write_text(self.path / SUMMARY, dumps(summary.to_json(), indent=1) + "\n")

    def record(self, events: Iterable[ev.Event]) -> Iterator[ev.Event]:
        """Pass events on, each written to events.jsonl first."""
        return self.log.write(events)

    def rewind(self, step: int, seconds: float, saved_at: Path | None = None) -> None:
        """Drop the events after the checkpoint `saved_at` of `step`. seconds: the time of all steps until then."""
        self.log.rewind(step, seconds, str(saved_at.relative_to(self.path)) if saved_at else "")
        self.row_log().cut(step)

    def begin_again(self) -> None:
        """Drop all events of a run that was killed before its first checkpoint."""
        self.log.clear()
        self.row_log().clear()


def refuse_imported(config: RunConfig, name: str) -> None:
    """Raises RunError for the config of an imported run, which has losses only. name: of the run."""
    if isinstance(config, ImportedConfig):
        message = f"imported from a log ({config.source.path}): it has losses, but no model, weights or examples"
        raise RunError.of("unavailable", message, key=name)


def _modified(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def read_config(path: Path) -> RunConfig:
    """Return the config in a config.toml. Raises ConfigError."""
    tables = settings.read_tables(str(path))
    return script.build(tables) if script.is_script(tables) else settings.build(tables, any_plugin=True)


def create(name: str, config: RunConfig, tokenizer: "Tokenizer", out: Path | None = None) -> Run:
    """Return a new run folder: `out`, or one named after `name` and the time. Raises RunError when `out` is taken."""
    path = out if out is not None else free_path(runs_folder(), name)
    try:
        refuse_taken(path)
        path.mkdir(parents=True, exist_ok=True)
        lock = take(path)
        try:
            refuse_taken(path)
            files.sweep_temporaries(path)
            format_version.write(path)
            # The config last: it makes the folder a run.
            files.write_text(path / TOKENIZER, json.dumps(tokenizer.state()))
            files.write_text(path / CONFIG, config_text(config))
        finally:
            lock.release()
    except (OSError, ValueError) as error:
        if isinstance(error, RunError):
            raise
        reason = getattr(error, "strerror", None) or str(error)  # ValueError: a NUL in the name.
        raise RunError.of("unwritable", f"cannot create a run here: {reason}", key=shortened(str(path))) from error
    return Run(path)


def config_text(config: RunConfig) -> str:
    """Return the text of a config.toml."""
    return settings.to_toml(config) if isinstance(config, Config) else script.to_toml(config)


def watch_command(config: ScriptConfig) -> str:
    """Return the command that starts a script again."""
    return shlex.join(["tui-lab", "watch", *config.command])


def refuse_taken(path: Path) -> None:
    """Raises RunError for a folder that holds more than what a killed `create` leaves."""
    if not path.exists() and not path.is_symlink():
        return
    if path.is_dir() and all(p.name in BEFORE_CONFIG or p.name.startswith(files.TEMPORARY) for p in path.iterdir()):
        return
    hint = f"; to continue this run, use --resume {path}" if _can_resume(path) else ""
    raise RunError.of("exists", f"already exists{hint}", key="--out", value=str(path))


def _can_resume(path: Path) -> bool:
    """Return whether a folder is the run of our trainer, which can be resumed."""
    try:
        return isinstance(read_config(path / CONFIG), Config)
    except ConfigError:
        return False


def find(name: str) -> Run:
    """Return the run of a path, or of a name in the runs folder, or the only trial of a sweep with this name.

    Raises RunError with the nearest name, or for a format that is newer than ours.
    """
    for path in (Path(name), runs_folder() / name):
        if settings.is_file(path / CONFIG):
            format_version.require_readable(path)
            return Run(path)
    trials = list(runs_folder().glob(f"*/trials/{glob.escape(name)}/{CONFIG}")) if Path(name).name == name else []
    if len(trials) == 1:
        return Run(trials[0].parent)
    raise RunError.of(
        "unknown_name",
        f"not a run: neither this folder nor {shortened(str(runs_folder() / name))} has a {CONFIG}",
        value=name,
        suggestion=nearest(name, [run.name for run in list_runs()], cutoff=0.4),
    )


def list_runs() -> list[Run]:
    """Return all runs of the runs folder, the oldest first."""
    folder = runs_folder()
    runs = [Run(p) for p in folder.iterdir() if (p / CONFIG).is_file()] if folder.is_dir() else []
    return sorted(runs, key=lambda run: ((run.path / CONFIG).stat().st_mtime_ns, run.name))


def free_path(folder: Path, name: str) -> Path:
    """Make a new folder in `folder`, named after `name` and the time. Raises RunError.

    Other characters than ASCII letters, digits, dots, _ and - are replaced by -.
    """
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[:100] or "run"
    base = folder / f"{stem}-{time.strftime('%Y%m%d-%H%M%S')}"
    candidates = [base, *(base.with_name(f"{base.name}-{i}") for i in range(2, 10_000))]
    try:
        for path in candidates:
            with contextlib.suppress(FileExistsError):
                path.mkdir(parents=True)
                return path
    except OSError as error:
        raise RunError.of("unwritable", f"cannot create a run here: {error.strerror}", key=str(folder)) from error
    raise RunError.of("exists", "there are 10,000 runs with this name; remove some, or use --out", key=str(base))

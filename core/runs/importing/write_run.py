"""Write an imported run: a run folder as any other, whose config says what it was imported from."""

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from tui_lab.core.config.script import ImportedConfig, ScriptTrainConfig, SourceConfig
from tui_lab.core.runs import format_version
from tui_lab.core.runs.delete import removable
from tui_lab.core.runs.downsampled_log import DownsampledLog
from tui_lab.core.runs.event_log import line_of
from tui_lab.core.runs.folder import Run, config_text, read_config
from tui_lab.core.runs.importing.events import events_of
from tui_lab.core.runs.importing.source import ImportSource
from tui_lab.core.runs.run_files import CONFIG, DIGEST, EVENTS, NOTES, TOKENIZER
from tui_lab.core.runs.summary import Summarizer, Summary
from tui_lab.util import files
from tui_lab.util.errors import ConfigError, RunError
from tui_lab.util.strict_json import dumps

UNKNOWN_TOKENS = {"name": "ids", "n_vocab": 0}
"""The tokenizer of a run whose tokens are not known."""


@dataclass(frozen=True)
class ImportedRun:
    """A run that was written."""

    run: Run
    source: ImportSource
    summary: Summary
    n_steps: int
    n_evaluations: int


def run_name(name: str) -> str:
    """Return a name as that of a folder."""
    return re.sub(r"[^\w.-]+", "-", name).strip("-.")[:100] or "imported"


def write_run(source: ImportSource, path: Path, *, replace: bool) -> ImportedRun:
    """Write the run of `source` to `path`, whole or not at all. replace: an imported run that is there.

    Tags and note of a replaced run are kept. Raises RunError where there is something that must not be replaced or the
    folder cannot be written, DataError for damage in the source.
    """
    _refuse_existing(source, path, replace=replace)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with files.new_folder(path) as folder:
            imported = _write(source, folder, path)
            # Another process may have written there meanwhile.
            _refuse_existing(source, path, replace=replace)
            if path.exists():
                _keep_notes(removable(path), folder)
    except OSError as error:
        raise RunError.of("unwritable", f"not imported: {files.advice(error)}", key=str(path)) from error
    return imported


def _refuse_existing(source: ImportSource, path: Path, *, replace: bool) -> None:
    """Raises RunError where `path` exists, unless it is an imported run and `replace` is set."""
    if not path.exists() and not path.is_symlink():
        return
    try:
        config = read_config(path / CONFIG)
    except (ConfigError, OSError):
        config = None
    if not isinstance(config, ImportedConfig):
        message = "already exists, and is not an imported run; choose another name with --name or --out"
        raise RunError.of("exists", message, key=str(path))
    if replace:
        return
    same_path = config.source.path == str(source.path.resolve())
    if config.source.sha256 == source.sha256:
        message = "is imported already, and the source has not changed since; --replace imports it again"
    elif same_path:
        message = "is imported already, and the source has changed since; --replace imports it again"
    else:
        message = f"is imported already, from {config.source.path}; choose another name with --name, or --replace it"
    raise RunError.of("exists", message, key=str(path))


def _write(source: ImportSource, folder: Path, path: Path) -> ImportedRun:
    """Write the files of a run into `folder`, which becomes `path`."""
    log = DownsampledLog()
    summarizer = Summarizer()
    n_events = {"step": 0, "evaluated": 0}
    with (folder / EVENTS).open("wb") as out:
        for event in events_of(source):
            out.write(line_of(event))
            log.add(event)
            summarizer.update(event)
            if event.kind in n_events:
                n_events[event.kind] += 1
        size = out.tell()
    log.write(folder / DIGEST, size)
    files.write_text(folder / TOKENIZER, dumps(UNKNOWN_TOKENS))
    format_version.write(folder)
    files.write_text(folder / CONFIG, config_text(_config(source)))
    summary = summarizer.summary(str(path))
    Run(folder).write_summary(summary)
    os.utime(folder / CONFIG, (source.created, source.created))
    return ImportedRun(Run(path), source, summary, n_events["step"], n_events["evaluated"])


def _config(source: ImportSource) -> ImportedConfig:
    origin = SourceConfig(
        path=str(source.path.resolve()),
        format=source.format,
        sha256=source.sha256,
        columns={value: name for value, name in source.columns.items()},
    )
    return ImportedConfig(
        source=origin, train=ScriptTrainConfig(steps=source.planned_steps), settings=dict(source.settings)
    )


def _keep_notes(replaced: Path, folder: Path) -> None:
    if (replaced / NOTES).is_file():
        shutil.copyfile(replaced / NOTES, folder / NOTES)

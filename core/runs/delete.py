"""Removing a run folder for good: nothing but a run, none that is being trained, and nothing outside it."""

import shutil
from pathlib import Path

from tui_lab.core.runs.catalog import NOTES, read_config
from tui_lab.core.runs.folder import CONFIG, DIGEST, EVENTS, SUMMARY, TOKENIZER
from tui_lab.core.runs.lock import HOLDER, LOCK, in_use
from tui_lab.util import files
from tui_lab.util.errors import ConfigError, RunError

OWN = frozenset({CONFIG, TOKENIZER, EVENTS, DIGEST, SUMMARY, NOTES, LOCK, HOLDER, "checkpoints"})
"""What a run folder holds. Whatever else lies there is somebody's work, and no run's to lose."""


def removable(path: Path) -> Path:
    """The real path of a run folder that may be removed. Raises RunError, which says why another one may not."""
    if path.is_symlink():
        raise RunError(f"{path}: a link, which is not followed; remove it by rm, or name the folder it leads to")
    if not path.is_dir():
        raise RunError(f"{path}: no such folder")
    if not ((path / CONFIG).is_file() and (path / TOKENIZER).is_file()):
        raise RunError(f"{path}: no run folder, so it is not removed: {CONFIG} and {TOKENIZER} are not both there")
    try:
        read_config(path / CONFIG)
    except (ConfigError, OSError) as error:
        raise RunError(f"{path}: its {CONFIG} is not a run's, so it is not removed") from error
    others = sorted(p.name for p in path.iterdir() if p.name not in OWN and not p.name.startswith(files.TEMPORARY))
    if others:
        raise RunError(
            f"{path}: not removed, since it holds what no run writes: {', '.join(others[:5])}; move it first"
        )
    if holder := in_use(path):
        raise RunError(f"{path}: it is being trained now, by {holder}, so it is not removed")
    return path.resolve()


def remove(path: Path) -> None:
    """Remove what `removable` allows: out of sight at once, then file by file. Raises RunError."""
    real = removable(path)
    # No half of a run is ever listed; what a kill leaves has a temporary's name.
    doomed = real.with_name(f"{files.TEMPORARY}removed-{real.name}")
    try:
        real.rename(doomed)
        files.sync(real.parent)
        # Links in it are removed, not what they lead to.
        shutil.rmtree(doomed)
    except OSError as error:
        raise RunError(f"{path}: not removed: {error.strerror}: {error.filename}") from error

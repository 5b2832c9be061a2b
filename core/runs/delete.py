"""Delete run folders: only runs, none in use, and nothing outside the folder."""

import shutil
from pathlib import Path

from tui_lab.core.runs.folder import Run, read_config
from tui_lab.core.runs.lock import in_use
from tui_lab.core.runs.run_files import ALL, CONFIG, NOTES, REPLIES, TOKENIZER
from tui_lab.core.training.checkpoint_names import is_by_hand
from tui_lab.util import files
from tui_lab.util.errors import Code, ConfigError, RunError


def removable(path: Path) -> Path:
    """Return the real path of a run folder that may be deleted. Raises RunError with the reason for any other path."""
    if path.is_symlink():
        raise _refusal("invalid", path, "is a symlink; remove it with rm, or name the folder itself")
    if not path.is_dir():
        raise _refusal("not_found", path, "no such folder")
    if not ((path / CONFIG).is_file() and (path / TOKENIZER).is_file()):
        raise _refusal("invalid", path, f"not a run folder: it needs {CONFIG} and {TOKENIZER}")
    try:
        read_config(path / CONFIG)
    except (ConfigError, OSError) as error:
        raise _refusal("invalid", path, f"not a run folder: {CONFIG} is not the config of a run") from error
    others = sorted(p.name for p in path.iterdir() if p.name not in ALL and not p.name.startswith(files.TEMPORARY))
    if others:
        raise _refusal(
            "conflict", path, f"has files that are not part of a run: {', '.join(others[:5])}; move them first"
        )
    if holder := in_use(path):
        raise _refusal("in_use", path, f"is in use by {holder}")
    return path.resolve()


def _refusal(code: Code, path: Path, reason: str) -> RunError:
    return RunError.of(code, f"{reason} (not deleted)", key=str(path))


def remove(path: Path) -> None:
    """Delete a run folder that `removable` allows. Raises RunError."""
    real = removable(path)
    # Renamed first, so that a half-deleted run is never listed, even after a kill.
    temporary = real.with_name(f"{files.TEMPORARY}removed-{real.name}")
    try:
        real.rename(temporary)
        files.sync(real.parent)
        # This removes links, not their targets.
        shutil.rmtree(temporary)
    except OSError as error:
        raise RunError.of("unwritable", f"not deleted: {error.strerror}: {error.filename}", key=str(path)) from error


def remove_unused(run: Run) -> bool:
    """Delete a run that was stopped before its first step, unless a user has left something in it; return whether.

    That is a checkpoint saved by hand, a note, or a reply of the model. Raises RunError as `remove` does.
    """
    summary = run.summary()
    if summary is None or summary.steps or summary.reason != "stopped":
        return False
    if any((run.path / name).exists() for name in (NOTES, REPLIES)) or any(map(is_by_hand, run.saved_checkpoints())):
        return False
    remove(run.path)
    return True

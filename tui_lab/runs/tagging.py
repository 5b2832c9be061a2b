"""`runs tag`, `note` and `rm`: what a person keeps of runs, and what goes."""

import sys
from collections.abc import Sequence
from pathlib import Path

import typer

from tui_lab.core.runs import folder as runs
from tui_lab.core.runs.catalog import read_notes, write_notes
from tui_lab.core.runs.delete import removable, remove
from tui_lab.util.errors import ConfigError
from tui_lab.util.escape import printable


def tag_run(name: str, tags: Sequence[str], drop: Sequence[str]) -> None:
    """Raises ConfigError for a tag that is none or that is to be dropped and not there."""
    path = runs.find(name).path
    notes = read_notes(path)
    missing = [tag for tag in drop if tag not in notes.tags]
    if missing:
        raise ConfigError([f"--drop {missing[0]}: the run's tags are {', '.join(notes.tags) or 'none'}"])
    kept = [tag for tag in notes.tags if tag not in drop] + list(tags)
    if tags or drop:
        write_notes(path, kept, notes.note)
    sys.stdout.write(printable(" ".join(dict.fromkeys(kept)) or "no tags") + "\n")


def note_run(name: str, text: str) -> None:
    path = runs.find(name).path
    write_notes(path, read_notes(path).tags, text)


def remove_runs(names: Sequence[str], *, yes: bool) -> None:
    """All of them or none. Raises ConfigError without a terminal to ask at, RunError for what may not be removed."""
    found = list(dict.fromkeys(_place(name) for name in names))
    for path in found:
        removable(path)
    if not yes:
        if not sys.stdin.isatty():
            raise ConfigError(["runs rm: it asks first, and there is no terminal here; --yes removes without asking"])
        for path in found:
            typer.echo(printable(str(path)), err=True)
        words = "this run" if len(found) == 1 else f"these {len(found)} runs"
        if not typer.confirm(f"Remove {words} for good?", err=True):
            typer.echo("nothing was removed", err=True)
            return
    for path in found:
        remove(path)
        sys.stdout.write(f"removed {printable(str(path))}\n")


def _place(name: str) -> Path:
    """Where the person points, links not followed."""
    there = Path(name)
    return there if there.is_symlink() or there.exists() else runs.find(name).path

"""Tags and notes of runs."""

from collections.abc import Sequence

from tui_lab.core.runs import folder as runs
from tui_lab.core.runs.catalog import read_notes, write_notes
from tui_lab.util.errors import ConfigError, nearest


def tag_run(name: str, tags: Sequence[str], drop: Sequence[str]) -> list[str]:
    """Add `tags` to a run, remove those in `drop`, and return its tags.

    Raises ConfigError for an invalid tag, or one to remove that the run does not have.
    """
    path = runs.find(name).path
    notes = read_notes(path)
    for tag in drop:
        if tag not in notes.tags:
            raise ConfigError.of(
                "unknown_name",
                "the run does not have this tag",
                key="--drop",
                value=tag,
                allowed=", ".join(notes.tags),
                suggestion=nearest(tag, notes.tags),
            )
    new_tags = list(dict.fromkeys([tag for tag in notes.tags if tag not in drop] + list(tags)))
    if tags or drop:
        write_notes(path, new_tags, notes.note)
    return new_tags


def note_run(name: str, text: str) -> None:
    """Replace the note of a run; an empty text removes it."""
    path = runs.find(name).path
    write_notes(path, read_notes(path).tags, text)

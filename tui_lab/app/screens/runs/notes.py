"""Edit the tags and the note of a run."""

from dataclasses import replace
from typing import Literal

from tui_lab.app.screens.dialogs import LONGEST_NAME, AskLine
from tui_lab.core.runs.catalog import RunRow, write_notes
from tui_lab.runs.names import short_name


def notes_dialog(row: RunRow, part: Literal["tags", "note"]) -> AskLine:
    name = short_name(row.name, LONGEST_NAME)
    if part == "tags":
        return AskLine(f"Tags of {name}, separated by spaces", " ".join(row.tags), may_be_empty=True)
    return AskLine(f"Note for {name}", row.note, may_be_empty=True)


def save_notes(row: RunRow, part: Literal["tags", "note"], text: str) -> RunRow:
    """Write the tags or the note to the run's folder and return the new row. Raises ConfigError, RunError."""
    if part == "tags":
        edited = replace(row, tags=tuple(dict.fromkeys(text.replace(",", " ").split())))
    else:
        edited = replace(row, note=text)
    write_notes(row.path, edited.tags, edited.note)
    return edited

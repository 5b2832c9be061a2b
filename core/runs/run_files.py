"""The files and folders in a run folder: their names, which may be there before the run is, and that none is a link."""

from collections.abc import Iterable
from pathlib import Path

from tui_lab.util.errors import RunError

FORMAT = "format.json"
CONFIG = "config.toml"
TOKENIZER = "tokenizer.json"
EVENTS = "events.jsonl"
DIGEST = "digest.json"
SUMMARY = "summary.json"
CHECKPOINTS = "checkpoints"
NOTES = "notes.json"
"""Tags and a note of the user."""
LOCK = ".lock"
HOLDER = ".holder.json"
"""The process that writes into the folder."""
CONTROL = "control.jsonl"
"""Commands of other processes."""
OUTPUT = "output.log"
"""What a detached run or a script prints."""
REPLIES = "replies.jsonl"
"""The newest replies of the model to prompts in the app."""
BATCH = "batch.safetensors"
"""The latest batch of a script."""
ANSWERS = "answers"
"""The answers of a script to commands."""
CODE = "code"
"""The text of a script's own files."""
CODE_INFO = "code.json"
"""Which files these are; see code.py."""
ROW_LOSSES = "row_losses.bin"
"""The losses of the rows of each update; see row_log.py."""
OLDER_ROW_LOSSES = "row_losses.older.bin"

LOCK_FILES = frozenset((LOCK, HOLDER))
BEFORE_CONFIG = LOCK_FILES | {FORMAT, TOKENIZER, OUTPUT}
"""What is written before config.toml, which makes a folder a run: a process that is killed in between leaves these."""
ALL = BEFORE_CONFIG | {
    CONFIG,
    EVENTS,
    DIGEST,
    SUMMARY,
    CHECKPOINTS,
    NOTES,
    CONTROL,
    REPLIES,
    BATCH,
    ANSWERS,
    CODE,
    CODE_INFO,
    ROW_LOSSES,
    OLDER_ROW_LOSSES,
}
"""Everything that a run folder may contain, besides temporary files."""


def refuse_links(folder: Path, names: Iterable[str] = ALL) -> None:
    """Raise RunError if one of these files of a run is a symlink: nothing is written outside the run folder."""
    for name in sorted(names):
        if (folder / name).is_symlink():
            raise RunError.of(
                "invalid",
                "is a symlink, and a run writes only within its own folder; replace it with a copy, or remove it",
                key=str(folder / name),
            )

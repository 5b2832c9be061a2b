"""What the readers of all formats give: one `ImportSource` for each run, with rows of values."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from tui_lab.core.config.script import Captured
from tui_lab.core.runs.importing.columns import Columns

Format = Literal["tensorboard", "csv", "trainer-state"]
TRAINER_STATE: Format = "trainer-state"
"""Its train losses are means, see Source.has_interval_means."""
FORMATS: tuple[Format, ...] = get_args(Format)


def sha256_of(file: Path) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal digits. Raises OSError."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@dataclass(frozen=True)
class Row:
    """What was logged at one step. place: of the row in its source, for messages; values: by column, without `step`."""

    place: str
    step: int
    values: Mapping[str, float]


@dataclass(frozen=True)
class ImportSource:
    """One run in a log. path: its file or folder; name: of the run, as the log suggests it.

    columns: which column is which value; others: the remaining columns with numbers; ignored: those without.
    rows: reads the log again from the start, in the order of its steps; raises DataError. sha256: of the content.
    planned_steps: 0 where it is not known. settings: of the training, as far as the log has them.
    created: when the run began, in seconds since 1970. has_interval_means: whether each train loss is the mean of the
    steps since the row before.
    """

    path: Path
    format: Format
    name: str
    columns: Columns
    rows: Callable[[], Iterator[Row]]
    sha256: str
    created: float
    others: Sequence[str] = ()
    ignored: Sequence[str] = ()
    notes: Sequence[str] = ()
    planned_steps: int = 0
    settings: Mapping[str, Captured] = field(default_factory=dict)
    has_interval_means: bool = False


@dataclass(frozen=True)
class Log:
    """A file or folder with the log of one run or several. read: its runs; raises ConfigError, DataError."""

    path: Path
    read: Callable[[], Sequence[ImportSource]]

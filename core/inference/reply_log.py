"""replies.jsonl: the newest replies of a run's model to prompts. The app shows them again when it opens the run."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError

from tui_lab.core.inference.sampling import Generated, Sampling
from tui_lab.core.runs.append_log import Appender
from tui_lab.core.runs.run_files import REPLIES
from tui_lab.util import files
from tui_lab.util.errors import ConfigError
from tui_lab.util.lazy_adapter import LazyAdapter
from tui_lab.util.strict_json import dumps

MAX_REPLIES = 50
"""The older ones are dropped, and those for which MAX_BYTES do not suffice."""
MAX_BYTES = 2**20
"""Of the newest replies. The file is cut to them when it has twice as many."""


@dataclass(frozen=True)
class RecordedReply:
    """A reply. step: of the weights; best: whether they had the lowest validation loss."""

    step: Annotated[int, Field(ge=0)]
    best: bool
    prompt: str
    max_new_tokens: int
    sampling: Sampling
    tokens: list[Generated]


_REPLY: LazyAdapter[RecordedReply] = LazyAdapter(RecordedReply)


def append_reply(folder: Path, reply: RecordedReply) -> None:
    """Record a reply in the run folder `folder`; not one that is longer than MAX_BYTES. Raises OSError."""
    line = (dumps(asdict(reply)) + "\n").encode()
    if len(line) > MAX_BYTES:
        return
    path = folder / REPLIES
    with Appender(path) as out:
        if (failure := out.add(line)) is not None:
            raise failure
        is_long = out.size > 2 * MAX_BYTES
    if is_long:
        files.write_bytes(path, b"".join(_newest_lines(path)))


def read_replies(folder: Path) -> list[RecordedReply]:
    """Return the newest replies of a run, the oldest of them first. Lines that are damaged are left out."""
    replies = []
    for line in _newest_lines(folder / REPLIES):
        try:
            replies.append(_REPLY.validate_json(line))
        except (ValidationError, ConfigError):
            continue
    return replies


def _newest_lines(path: Path) -> list[bytes]:
    """Return the whole lines at the end of the file, at most MAX_REPLIES and MAX_BYTES; none if it cannot be read."""
    if not path.is_file():
        return []
    try:
        with path.open("rb") as stream:
            size = stream.seek(0, 2)
            start = max(0, size - MAX_BYTES - 1)
            stream.seek(start)
            content = stream.read(MAX_BYTES + 1)
    except OSError:
        return []
    lines = content[: content.rfind(b"\n") + 1].splitlines(keepends=True)
    return lines[1 if start else 0 :][-MAX_REPLIES:]

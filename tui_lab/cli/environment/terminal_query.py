"""Ask the terminal what it supports, by the queries that terminals answer in the input.

Each query is answered or ignored. The last one, for the primary device attributes, is answered by every terminal since
the VT100, so its answer ends the wait (XTerm Control Sequences, "CSI Ps c"; the kitty keyboard protocol, "Detection of
support for this protocol").
"""

import os
import re
import select
import termios
import time
import tty
from dataclasses import dataclass

SECONDS = 0.5
"""For a terminal behind a slow connection; a terminal that answers takes milliseconds."""

KEYBOARD = "\x1b[?u"
MOUSE = "\x1b[?1006$p"
SYNCHRONIZED = "\x1b[?2026$p"
ATTRIBUTES = "\x1b[c"


@dataclass(frozen=True)
class Replies:
    """What the terminal answered. None: it did not answer, so it is not known.

    keyboard_protocol: tells keys apart that send the same character, such as Tab and Ctrl+I. mouse: positions beyond
    column 223. synchronized_output: shows a frame only when it is complete.
    """

    keyboard_protocol: bool | None = None
    mouse: bool | None = None
    synchronized_output: bool | None = None


def ask(stdin: int = 0, stdout: int = 1, seconds: float = SECONDS) -> Replies:
    """Ask the terminal of two file descriptors. Its settings are restored, and no answer is left in the input."""
    # Apple's terminal writes the p of a query for a mode to the screen.
    modes = "" if os.environ.get("TERM_PROGRAM") == "Apple_Terminal" else MOUSE + SYNCHRONIZED
    before = termios.tcgetattr(stdin)
    try:
        tty.setcbreak(stdin, termios.TCSANOW)
        os.write(stdout, (KEYBOARD + modes + ATTRIBUTES).encode())
        answer = _read(stdin, time.monotonic() + seconds)
    finally:
        termios.tcsetattr(stdin, termios.TCSANOW, before)
    return replies_in(answer)


def _read(number: int, deadline: float) -> bytes:
    """Return the input up to the answer with the attributes, or what has come at `deadline`."""
    answer = b""
    while not re.search(rb"\x1b\[\?[\d;]*c", answer):
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([number], [], [], left)[0]:
            break
        if not (chunk := os.read(number, 1024)):
            break
        answer += chunk
    return answer


def replies_in(answer: bytes) -> Replies:
    """Return what the answers mean. A terminal that answers the last query alone does not support the others."""
    has_answered = re.search(rb"\x1b\[\?[\d;]*c", answer) is not None

    def mode(number: bytes) -> bool | None:
        match = re.search(rb"\x1b\[\?" + number + rb";(\d)\$y", answer)
        if match is None:
            return None
        return match[1] in b"123"

    keyboard = re.search(rb"\x1b\[\?\d+u", answer) is not None
    return Replies(keyboard if has_answered else None, mode(b"1006"), mode(b"2026"))

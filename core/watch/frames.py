"""The running functions and their variables, which are looked at without keeping them alive."""

import inspect
import sys
from collections.abc import Iterator
from types import FrameType
from typing import Any

from tui_lab.core.user_code.user_files import is_user_code


def with_callers(frame: FrameType | None) -> Iterator[FrameType]:
    """Yield a frame and those of its callers, the innermost first; none for None.

    `traceback.walk_stack` does the same, and also looks up each frame's line, which takes longer.
    """
    while frame is not None:
        yield frame
        frame = frame.f_back


def user_frames(frame: FrameType | None) -> Iterator[FrameType]:
    """Yield those of a frame and its callers that run a file of the user, the innermost first."""
    return (each for each in with_callers(frame) if is_user_code(each.f_code.co_filename))


def locals_of(frame: FrameType) -> dict[str, Any]:
    """The variables of a function.

    Python before 3.13 keeps a copy of them in the frame once they were looked at, which would keep the tensors of that
    moment until the function returns.
    """
    variables = dict(frame.f_locals)
    if sys.version_info < (3, 13) and frame.f_code.co_flags & inspect.CO_OPTIMIZED:
        frame.f_locals.clear()
    return variables

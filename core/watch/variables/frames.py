"""The running functions and their variables, which are looked at without keeping them alive."""

import dis
import functools
import inspect
import sys
from collections.abc import Iterator
from types import CodeType, FrameType
from typing import Any

from tui_lab.core.user_code.user_files import is_user_code

_NAMES = frozenset(("locals", "vars"))
"""The functions that return the variables of their caller."""
_READS = frozenset(("BINARY_OP", "CONTAINS_OP", "DICT_MERGE", "DICT_UPDATE", "GET_ITER", "LOAD_ATTR", "LOAD_METHOD"))
"""What bytecode does with a dictionary that it only reads: `"%(a)s" % locals()`, `f(**locals())`, `locals().copy()`."""


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


def is_function(frame: FrameType) -> bool:
    """Return whether a frame has variables of its own, and is not that of a module."""
    return _is_optimized(frame) or frame.f_locals is not frame.f_globals


def locals_of(frame: FrameType) -> dict[str, Any]:
    """Return the variables of a function; none of one that keeps what `locals()` returned.

    Python before 3.13 keeps a copy of them in the frame once they were looked at, which would keep the tensors of that
    moment until the function returns. That copy is what `locals()` returns: to look at it again changes it.
    """
    if sys.version_info >= (3, 13) or not _is_optimized(frame):
        return dict(frame.f_locals)
    if _NAMES.intersection(frame.f_code.co_names) and _keeps_locals(frame.f_code):
        return {}
    variables = dict(frame.f_locals)
    frame.f_locals.clear()
    return variables


def _is_optimized(frame: FrameType) -> bool:
    """Return whether a frame keeps its variables outside a dictionary, as functions do."""
    return bool(frame.f_code.co_flags & inspect.CO_OPTIMIZED)


@functools.lru_cache(maxsize=256)
def _keeps_locals(code: CodeType) -> bool:
    """Return whether a function does anything with what `locals()` or `vars()` returns but to read it at once."""
    instructions = [each for each in dis.get_instructions(code) if each.opname not in ("EXTENDED_ARG", "PRECALL")]
    for function, call, use in zip(instructions, instructions[1:], instructions[2:], strict=False):
        is_call = function.argval in _NAMES and call.opname == "CALL" and call.arg == 0
        if is_call and use.opname not in _READS:
            return True
    return False

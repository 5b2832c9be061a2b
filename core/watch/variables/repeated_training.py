"""Whether a script may train more than once, in one place or in several: then its last step is not known."""

import ast
import re
from collections.abc import Iterator, Sequence
from types import CodeType, FrameType

from tui_lab.core.watch.code.call_places import name_of, parsed_source
from tui_lab.core.watch.variables.frames import is_function, user_frames, with_callers
from tui_lab.core.watch.variables.loops import Loop

_OPTIMIZER = re.compile(r"opt", re.IGNORECASE)
_MODEL = re.compile(r"model|net|module|coder|critic|actor|policy|generator|discriminator|head", re.IGNORECASE)
_CALLED_ONCE = frozenset({
    "absl", "accelerate", "argh", "click", "contextlib", "fire", "functools", "hydra", "jsonargparse", "plac", "runpy",
    "simple_parsing", "torch", "tui_lab", "typer", "tyro"
})  # fmt: skip
"""Packages that call a function of a script once, or make one step of it."""


def may_be_repeated(frame: FrameType | None, loops: Sequence[Loop]) -> bool:
    """Return whether the training around a step may be repeated, by the script or by a library that calls it.

    loops: those that run around the step.
    """
    return _is_called_by_others(frame) or _is_repeated(frame, loops)


def _is_repeated(frame: FrameType | None, loops: Sequence[Loop]) -> bool:
    """Return whether the script may train in other places, too, or more than once in this one."""
    frames = list(user_frames(frame))
    for file in {each.f_code.co_filename for each in frames}:
        tree = parsed_source(file)
        if tree is None:
            return True
        calls = [each for each in ast.walk(tree) if isinstance(each, ast.Call)]
        if any(len(list(_calls_of(each.f_code, calls))) > 1 for each in frames if is_function(each)):
            return True
        nodes = [loop.source.node for loop in loops if loop.source.file == file]
        steps = [call for call in calls if name_of(call.func) == "step" and _OPTIMIZER.search(_receiver(call))]
        if len({_receiver(call) for call in steps}) < len(steps):
            return True
        if not all(any(node.lineno <= call.lineno <= (node.end_lineno or 0) for node in nodes) for call in steps):
            return True
    return False


def _is_called_by_others(frame: FrameType | None) -> bool:
    """Return whether code of a library that may repeat what it calls runs around the step."""
    packages = {str(each.f_globals.get("__name__", "")).partition(".")[0] for each in _library_frames(frame)}
    return not packages <= _CALLED_ONCE


def _calls_of(code: CodeType, calls: Sequence[ast.Call]) -> Iterator[ast.Call]:
    """Yield the calls that may be of a function; those of a model's `train` are not."""
    is_method = "." in code.co_qualname.replace("<locals>.", "")
    for call in calls:
        is_attribute = isinstance(call.func, ast.Attribute)
        if name_of(call.func) == code.co_name and is_attribute == is_method and not _MODEL.search(_receiver(call)):
            yield call


def _receiver(call: ast.Call) -> str:
    return ast.unparse(call.func.value) if isinstance(call.func, ast.Attribute) else ""


def _library_frames(frame: FrameType | None) -> Iterator[FrameType]:
    users = {id(each) for each in user_frames(frame)}
    return (each for each in with_callers(frame) if id(each) not in users)

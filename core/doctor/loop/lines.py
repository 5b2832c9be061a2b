"""Which line of the user's code makes the present call, or defines a module."""

import inspect
import sys
from typing import TYPE_CHECKING

from tui_lab.core.user_code.shown_file import shown_file
from tui_lab.core.user_code.user_files import is_user_code
from tui_lab.core.watch.variables.frames import user_frames

if TYPE_CHECKING:  # This module is imported before the user's code, which torch may have to follow.
    from torch import nn


def user_line() -> str:
    """Return the innermost line outside torch, other installed packages and tui-lab, "src/train.py:42"; "" if none.

    The file is relative to the folder in which the command was started, if it is in there.
    """
    frame = next(user_frames(sys._getframe(1)), None)
    return "" if frame is None else f"{shown_file(frame.f_code.co_filename)}:{frame.f_lineno}"


def class_line(model: "nn.Module", name: str) -> str:
    """Return the line that defines the class of the innermost user's module that contains `name`, or is it; or ""."""
    parts = name.split(".") if name else []
    for n in range(len(parts), -1, -1):
        kind = type(model.get_submodule(".".join(parts[:n])))
        try:
            file = inspect.getsourcefile(kind)
            _, line = inspect.getsourcelines(kind)
        except (OSError, TypeError):  # Its source is not known, such as of a class that exec() made.
            continue
        if file is not None and is_user_code(file):
            return f"{shown_file(file)}:{line}"
    return ""

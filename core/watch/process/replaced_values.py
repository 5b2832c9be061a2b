"""Other values for what a script assigns at its top level, put in place right after it has assigned its own.

The file is run as it is. A trace function sees the lines of the script's top level, and of the bodies of its classes,
and ends once every value has been replaced. Imports are not traced: that of torch would take half as long again.
"""

import builtins
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from tui_lab.core.user_code.assigned_values import Assigned, assigned_values

TOP_LEVEL = "<module>"


class ReplacedValues:
    """values: by the keys of `assigned_values`. script: the file that Python runs as __main__; None: a module."""

    def __init__(self, script: str | None, values: Mapping[str, Any]) -> None:
        self._script = None if script is None else os.path.realpath(script)
        self._left = dict(values)
        self._own: Assigned = {}
        """What the script assigns, once it has begun."""
        self._import = builtins.__import__

    def install(self) -> None:
        """Take effect in this thread. Call it last: the trace function sees every call from here on."""
        if self._left:
            vars(builtins)["__import__"] = self._untraced_import
            sys.settrace(self._called)

    def _end(self) -> None:
        sys.settrace(None)
        vars(builtins)["__import__"] = self._import

    def _untraced_import(self, *args: Any, **kwargs: Any) -> Any:
        tracer = sys.gettrace()
        sys.settrace(None)
        try:
            return self._import(*args, **kwargs)
        finally:
            sys.settrace(tracer)

    def _called(self, frame: FrameType, event: str, argument: Any) -> Any:
        if frame.f_globals.get("__name__") != "__main__" or not self._is_traced(frame):
            return None
        return self._line

    def _is_traced(self, frame: FrameType) -> bool:
        """Return whether a frame is the script's top level, or the body of a class there."""
        code = frame.f_code
        if code.co_name == TOP_LEVEL:
            path = os.path.realpath(code.co_filename)
            if not (os.path.isfile(path) if self._script is None else path == self._script):
                return False
            self._own = assigned_values(Path(path))
            return True
        outer = frame.f_back
        is_at_top = outer is not None and outer.f_code.co_name == TOP_LEVEL
        return is_at_top and any(key.startswith(f"{code.co_name}.") for key in self._left)

    def _line(self, frame: FrameType, event: str, argument: Any) -> Any:
        """Replace what has been assigned so far; called before each line, and at the end of the frame."""
        if event == "exception":
            return self._line
        prefix = "" if frame.f_code.co_name == TOP_LEVEL else f"{frame.f_code.co_name}."
        line = sys.maxsize if event == "return" else frame.f_lineno
        for key in [key for key in self._left if key.startswith(prefix) and self._is_assigned_before(key, line)]:
            if _replace(frame.f_locals, key.removeprefix(prefix), self._left[key]):
                del self._left[key]
        is_end = event == "return" and not prefix
        if is_end or not self._left:
            self._end()
            return None
        return self._line

    def _is_assigned_before(self, key: str, line: int) -> bool:
        """Return whether the script has assigned a value when it comes to a line; it may have imported one before."""
        return key in self._own and self._own[key].last_line < line


def _replace(namespace: dict[str, Any], key: str, value: Any) -> bool:
    """Replace a value, or an entry of a dict, if it has been assigned; return whether it was."""
    if key in namespace:
        namespace[key] = _like(namespace[key], value)
        return True
    name, dot, entry = key.partition(".")
    table = namespace.get(name) if dot else None
    if isinstance(table, dict) and entry in table:
        table[entry] = _like(table[entry], value)
        return True
    return False


def _like(own: Any, value: Any) -> Any:
    """Return a list as the tuple that the script has in its place."""
    return tuple(value) if isinstance(own, tuple) and isinstance(value, list) else value

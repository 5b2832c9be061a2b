"""Other values for what a script assigns, put in place right after it has assigned its own.

The file is run as it is; a function of it gets the code with other values right after it was defined. A trace function
sees the lines of the script's top level, and of the bodies of its classes, and ends once every value has been replaced.
Imports are not traced: that of torch would take half as long again.
"""

import builtins
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import CodeType, FrameType, FunctionType
from typing import Any

from tui_lab.core.user_code.assigned_values import AssignedValue, assigned_values
from tui_lab.core.watch.process.replaced_source import code_within, compiled, like

TOP_LEVEL = "<module>"
MOST_DECORATORS = 20


class ReplacedValues:
    """values: by the keys of `assigned_values`. script: the file that Python runs as __main__; None: a module.

    on_replaced: called with the key of each value once it is in its place.
    """

    def __init__(
        self, script: str | None, values: Mapping[str, Any], on_replaced: Callable[[str], None] = lambda key: None
    ) -> None:
        self._script = None if script is None else os.path.realpath(script)
        self._left = dict(values)
        self._own: dict[str, AssignedValue] = {}
        """What the script assigns, once it has begun."""
        self._functions: CodeType | None = None
        """The code of the script with the values of its functions."""
        self._on_replaced = on_replaced
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
            self._own = assigned_values(Path(path)).values
            self._functions = self._functions_of(Path(path), code.co_filename)
            return True
        outer = frame.f_back
        if outer is None or _scope(outer) != code.co_qualname.rpartition(".")[0]:
            return False
        return any(f"{key}.".startswith(f"{code.co_qualname}.") for key in self._left)

    def _line(self, frame: FrameType, event: str, argument: Any) -> Any:
        """Replace what has been assigned so far; called before each line, and at the end of the frame."""
        if event == "exception":
            return self._line
        scope = _scope(frame)
        line = sys.maxsize if event == "return" else frame.f_lineno
        for key in list(self._left):
            own = self._own.get(key)
            # The script may have imported the name before its own line assigns it.
            if own is None or own.outer_scope != scope or own.last_line >= line:
                continue
            is_replaced = (
                self._replace_code(frame.f_locals, own)
                if own.is_in_function
                else _replace(frame.f_locals, own, self._left[key])
            )
            if is_replaced:
                del self._left[key]
                self._on_replaced(key)
        is_end = event == "return" and not scope
        if is_end or not self._left:
            self._end()
            return None
        return self._line

    def _functions_of(self, path: Path, name: str) -> CodeType | None:
        """Return the code of the script with the values of its functions; None if they assign none of the keys."""
        replacements = [(own, self._left[key]) for key, own in self._own.items() if key in self._left]
        of_functions = [(own, value) for own, value in replacements if own.is_in_function]
        return compiled(path.read_bytes(), name, of_functions) if of_functions else None

    def _replace_code(self, namespace: dict[str, Any], own: AssignedValue) -> bool:
        """Give a function of the script the code with other values; return whether it is there."""
        function = _plain_function(namespace.get(own.scope.rpartition(".")[2]), own.scope)
        if function is None or self._functions is None:
            return False
        code = code_within(self._functions, function.__code__)
        if code is not None:
            function.__code__ = code
        return code is not None


def _plain_function(value: Any, qualified_name: str) -> FunctionType | None:
    """Return the function that a static method, or a decorated one, was made of; None if it is not known."""
    for _ in range(MOST_DECORATORS):
        if isinstance(value, FunctionType) and value.__code__.co_qualname == qualified_name:
            return value
        value = getattr(value, "__wrapped__", None)
    return None


def _scope(frame: FrameType) -> str:
    """Return the class whose body a frame is, as `AssignedValue.scope`."""
    return "" if frame.f_code.co_name == TOP_LEVEL else frame.f_code.co_qualname


def _replace(namespace: dict[str, Any], own: AssignedValue, value: Any) -> bool:
    """Replace the value at a path; return whether the script's own was there, and the other one is now."""
    owner: Any = namespace
    try:
        for name in own.path[:-1]:
            owner = _part(owner, name)
        before = _part(owner, own.path[-1])
        if type(before) is not type(own.value) or before != own.value:
            return False
        new = like(own.value, value)
        if isinstance(owner, dict) and own.path[-1] in owner:
            owner[own.path[-1]] = new
        else:
            setattr(owner, own.path[-1], new)
        return bool(_part(owner, own.path[-1]) == new)
    except Exception:  # Of an object of the script's own class, which does not take the value.
        return False


def _part(owner: Any, name: str) -> Any:
    """Return an entry of a dict, or an attribute. Raises whatever the object raises."""
    return owner[name] if isinstance(owner, dict) and name in owner else getattr(owner, name)

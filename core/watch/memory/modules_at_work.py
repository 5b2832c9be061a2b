"""Which modules of a script are at work: read from the running functions, so that no module gets a hook.

A hook on modules would change what torch.compile compiles.
"""

import re
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from types import FrameType
from typing import Any

from torch import nn

from tui_lab.core.user_code.shown_file import shown_file
from tui_lab.core.user_code.user_files import is_user_code
from tui_lab.core.watch.variables.frames import locals_of, with_callers

Path = tuple[tuple[str, str], ...]
"""Modules from the outermost to the one at work: the name of each, with * for the numbers of layers, and its class."""
_NUMBER = re.compile(r"(?<=\.)\d+(?=\.|$)|^\d+(?=\.|$)")
_WRAPPERS = re.compile(r"(^|\.)(module|_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)(?=\.|$)")
"""What DistributedDataParallel, torch.compile and others put before the names of a model's modules."""
_CALLS = ("_wrapped_call_impl", "_call_impl")
"""The functions of nn.Module that get the arguments of its call."""
_COMPILED = "_aot_autograd"
"""The folder of torch whose code runs what torch.compile has compiled."""


@dataclass(frozen=True)
class Place:
    """path: of the modules at work; empty outside of them. modules: which ones they are, for each part of the path.

    line: FILE:LINE of the user's code at work, or "". is_compiled: whether code of torch.compile is at work.
    """

    path: Path
    modules: tuple[int, ...]
    line: str
    is_compiled: bool


@dataclass(frozen=True)
class Call:
    """The call of the outermost module at work."""

    module: nn.Module
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]


class ModulesAtWork:
    """Names modules by their place in the outermost module that is at work. Keeps none of them alive."""

    def __init__(self) -> None:
        self._names: weakref.WeakKeyDictionary[nn.Module, dict[int, str]] = weakref.WeakKeyDictionary()

    @property
    def roots(self) -> list[nn.Module]:
        """The outermost modules that have been at work and are still there."""
        return list(self._names)

    def look(self, frame: FrameType | None) -> tuple[Place, Call | None]:
        """Return where the function of `frame` is at work, and the call of the outermost module if its arguments are
        known.
        """
        modules: list[nn.Module] = []
        call: Call | None = None
        line = ""
        is_compiled = False
        for each in with_callers(frame):
            code = each.f_code
            if not line and is_user_code(code.co_filename):
                line = f"{shown_file(code.co_filename)}:{each.f_lineno}"
            is_compiled |= _COMPILED in code.co_filename
            if not code.co_argcount or code.co_varnames[0] != "self":
                continue
            variables = locals_of(each)
            module: Any = variables.get("self")
            if not issubclass(type(module), nn.Module):
                continue
            if not modules or modules[-1] is not module:
                modules.append(module)
            if code.co_name in _CALLS:
                call = Call(module, variables.get("args", ()), variables.get("kwargs", {}))
        named = self._named(modules[::-1])
        path = tuple((name, type(module).__name__) for name, module in named)
        return Place(path, tuple(id(module) for _, module in named), line, is_compiled), call

    def _named(self, modules: list[nn.Module]) -> list[tuple[str, nn.Module]]:
        """Return modules that call each other, the outermost first, with their names."""
        if not modules:
            return []
        names = self._names_in(modules[0])
        named: list[tuple[str, nn.Module]] = []
        for module in modules:
            name = names.get(id(module), f"({type(module).__name__})")
            if named and named[-1][0] == name:  # A wrapper has the name of what it wraps.
                named.pop()
            named.append((name, module))
        return named

    def _names_in(self, root: nn.Module) -> dict[int, str]:
        if root not in self._names:
            named = root.named_modules(remove_duplicate=True)
            self._names[root] = {id(module): general_name(name) for name, module in named}
        return self._names[root]


def general_name(name: str) -> str:
    """Return the name of a module with * for the numbers of layers, and without what wrappers put before it."""
    without = _WRAPPERS.sub("", name).lstrip(".")
    return _NUMBER.sub("*", without)

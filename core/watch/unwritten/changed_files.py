"""Files that a script changes while it is one of several runs: those that were there before stay as they are.

What `open()` writes is covered by `RedirectedFiles`; torch and safetensors open their files in C++ and Rust.
"""

import functools
import sys
from collections.abc import Callable
from typing import Any

from tui_lab.core.watch.process.script_process import when_imported
from tui_lab.core.watch.unwritten.redirected_files import RedirectedFiles, is_path

_FUNCTIONS = (
    ("torch", "save", "load"),
    ("safetensors", "", "safe_open"),
    ("safetensors.torch", "save_file", "load_file"),
    ("safetensors.numpy", "save_file", "load_file"),
)
"""Modules with their functions that save and load; the others of their packages call these."""


class ChangedFiles:
    """Gives the script copies of the existing files that it changes; new files it writes where it wants.

    folder: for the copies; it may not exist yet. free: a folder in which files may be changed. made: gets the path of
    each file or folder that the script makes.
    """

    def __init__(self, folder: str, free: str, made: Callable[[str], None] = lambda path: None) -> None:
        self._redirected = RedirectedFiles(folder, lambda name: None, [free], made)

    def install(self) -> None:
        """Take effect: now for open(), and for a library as soon as the script imports it."""
        self._redirected.install()
        for module, save, load in _FUNCTIONS:
            when_imported(module, functools.partial(self._replace, module, save, load))

    def _replace(self, module: str, save: str, load: str) -> None:
        """Replace the functions of a module that save to a path, their second argument, and load from their first."""
        functions = vars(sys.modules[module])
        if save:
            functions[save] = with_path(functions[save], 1, self._to_write)
        functions[load] = with_path(functions[load], 0, self._redirected.current)

    def _to_write(self, path: Any) -> Any:
        return self._redirected.path_to_write(path, empty=True)


def with_path(function: Callable[..., Any], position: int, path_of: Callable[[Any], Any]) -> Callable[..., Any]:
    """Return `function` with another path, which is its argument at `position`, or the one named f or filename."""

    def call(*args: Any, **kwargs: Any) -> Any:
        arguments = list(args)
        if len(arguments) > position and is_path(arguments[position]):
            arguments[position] = path_of(arguments[position])
        for name in ("f", "filename"):
            if name in kwargs and is_path(kwargs[name]):
                kwargs[name] = path_of(kwargs[name])
        return function(*arguments, **kwargs)

    return call

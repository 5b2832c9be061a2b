"""Files that a script changes while it is one of several runs: those that were there before stay as they are.

What `open()` writes is covered by `RedirectedFiles`; torch and safetensors open their files in C++ and Rust.
"""

import functools
import os
import sys
from collections.abc import Callable
from typing import Any

from tui_lab.core.watch.process.script_process import when_imported
from tui_lab.core.watch.unwritten.redirected_files import RedirectedFiles

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
            functions[save] = _with_path(functions[save], 1, self._to_write)
        functions[load] = _with_path(functions[load], 0, self._redirected.current)

    def _to_write(self, path: Any) -> Any:
        return self._redirected.path_to_write(path, empty=True)


def _with_path(function: Callable[..., Any], position: int, path_of: Callable[[Any], Any]) -> Callable[..., Any]:
    """Return `function` with another path, which is its argument at `position`, or the one named f or filename."""

    def call(*args: Any, **kwargs: Any) -> Any:
        arguments = list(args)
        if len(arguments) > position:
            arguments[position] = _changed(arguments[position], path_of)
        for name in ("f", "filename"):
            if name in kwargs:
                kwargs[name] = _changed(kwargs[name], path_of)
        return function(*arguments, **kwargs)

    return call


def _changed(path: Any, path_of: Callable[[Any], Any]) -> Any:
    return path_of(path) if isinstance(path, str | bytes | os.PathLike) else path

"""Other values for what modules of the user assign: put into their source while Python imports them.

The files stay as they are.
"""

import importlib.machinery
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.abc import MetaPathFinder
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from tui_lab.core.user_code.assigned_values import assigned_values
from tui_lab.core.watch.process.replaced_source import compiled

Values = Mapping[str, Any]
"""By the keys of `assigned_values`."""
OnReplaced = Callable[[str, str], None]
"""Called with the file and the key of a value that has been replaced."""


class ReplacedModules(MetaPathFinder):
    """values: of each file, by its resolved path."""

    def __init__(self, values: Mapping[str, Values], on_replaced: OnReplaced) -> None:
        self._values = values
        self._names = {_name_of(Path(path)) for path in values}
        self._on_replaced = on_replaced

    def install(self) -> None:
        """Take effect for all modules that are imported from here on."""
        if self._values:
            finders = [*sys.meta_path]
            own = importlib.machinery.PathFinder
            sys.meta_path.insert(finders.index(own) if own in finders else len(finders), self)

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return the spec of a module whose values are replaced; None for all others."""
        if name.rpartition(".")[2] not in self._names:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is None or not isinstance(spec.loader, importlib.machinery.SourceFileLoader):
            return None
        file = os.path.realpath(spec.loader.path)
        if file not in self._values:
            return None
        spec.loader = _Loader(name, spec.loader.path, self._values[file], lambda key: self._on_replaced(file, key))
        return spec


class _Loader(importlib.machinery.SourceFileLoader):
    """Loads a file with other values. Its bytecode is neither read nor written."""

    def __init__(self, name: str, path: str, values: Values, on_replaced: Callable[[str], None]) -> None:
        super().__init__(name, path)
        self._replaced_values = values
        self._on_replaced = on_replaced

    def get_code(self, fullname: str) -> CodeType:
        """Compile the source with the values; one that it does not assign any more is left out."""
        own = assigned_values(Path(self.path), is_script=False).values
        present = [key for key in self._replaced_values if key in own]
        replacements = [(own[key], self._replaced_values[key]) for key in present]
        code = compiled(self.get_data(self.path), self.path, replacements)
        for key in present:
            self._on_replaced(key)
        return code


def _name_of(path: Path) -> str:
    """Return the last part of the name of a file's module."""
    return path.parent.name if path.stem == "__init__" else path.stem

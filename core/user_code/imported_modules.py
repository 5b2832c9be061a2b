"""The user's own modules that a script imports, found in its source: nothing is run."""

import ast
from collections.abc import Iterator, Sequence
from pathlib import Path

from tui_lab.core.user_code.user_files import is_user_code


def imported_modules(script: Path, folders: Sequence[Path], package: str = "") -> dict[str, Path]:
    """Return the files of the modules that a script imports, and of those that they import, by name.

    folders: where they are searched for, in this order. package: of the script, if it is run as a module of one. A file
    that cannot be read or is not Python imports nothing.
    """
    modules: dict[str, Path] = {}
    waiting = [(script, package)]
    while waiting:
        path, its_package = waiting.pop(0)
        for name in _imported_names(path, its_package):
            if name in modules or (module := _find(name, folders)) is None or module == script.resolve():
                continue
            modules[name] = module
            waiting.append((module, name if module.name == "__init__.py" else name.rpartition(".")[0]))
    return modules


def _imported_names(path: Path, package: str) -> Iterator[str]:
    """Yield the names of what a file may import as a module, with those of the packages around it."""
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                for alias in names:
                    yield from _with_packages(alias.name)
            case ast.ImportFrom(module=module, names=names, level=level):
                # Each dot after the first is one package further out.
                around = package.split(".")[: len(package.split(".")) - level + 1] if level else []
                base = ".".join([*(part for part in around if part), *([module] if module else [])])
                if base:
                    yield from _with_packages(base)
                yield from (f"{base}.{alias.name}".lstrip(".") for alias in names if alias.name != "*")


def _with_packages(name: str) -> Iterator[str]:
    parts = name.split(".")
    return (".".join(parts[:n]) for n in range(1, len(parts) + 1))


def _find(name: str, folders: Sequence[Path]) -> Path | None:
    """Return the resolved file of a module in the first folder that has it, if it is the user's."""
    for folder in folders:
        base = folder.joinpath(*name.split("."))
        for path in (base / "__init__.py", base.with_name(f"{base.name}.py")):
            if path.is_file():
                return path.resolve() if is_user_code(str(path)) else None
    return None

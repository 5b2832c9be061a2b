"""Keeps the text of the script and of its own modules and config files in Python, in the run folder."""

import hashlib
import os
import sys
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

from tui_lab.core import events as ev
from tui_lab.core.runs.code import (
    CODE_VARIABLE,
    LARGEST_CODE,
    LARGEST_FILE,
    MOST_FILES,
    CodeFile,
    GitState,
    LeftOut,
    RecordedCode,
    write_code,
)
from tui_lab.core.watch.code.executed_files import names_in_arguments, names_in_code
from tui_lab.core.watch.code.git_state import git_state, work_tree_of
from tui_lab.core.watch.code.session_cells import SessionCells
from tui_lab.core.watch.event_writer import Job
from tui_lab.core.watch.variables.script_config import LIBRARIES
from tui_lab.util import files

MAIN = "__main__"
PACKAGE = "tui_lab"
CELLS = "notebook-cells.py"
"""The name of the cells of a notebook since the run has begun, among the files. No module can have it."""
CELLS_BEFORE = "notebook-cells-before.py"
MOST_LEFT_OUT = 1_000
"""Files that are left out and named."""


class CodeRecorder:
    """`update` records the files that the script has run since the last time; the first text of a file is kept.

    Only .py files below the folder of the script or its git work tree, and the script itself: what it has imported, and
    what it executes by a name that is in its code or on its command line.
    """

    def __init__(self, run: Path, put: Callable[[ev.Event | Job], None]) -> None:
        """Run git. run: the folder; put: takes events, and jobs that write files."""
        self._run = run
        self._put = put
        self._main = _main_file()
        self._folder = _folder_of(self._main)
        self._current_folder = Path.cwd()
        self._arguments = [] if self._main is None else sys.argv[1:]  # Those of a notebook's kernel are not the user's.
        work_tree = work_tree_of(self._folder)
        self._root = work_tree or self._folder
        self._git: GitState | None = None if work_tree is None else git_state(work_tree)
        self._cells = SessionCells.of_this_process() if self._main is None else None
        self._n_steps_read = -1
        """The steps that were made when the cells were read last."""
        self._files: dict[str, CodeFile] = {}
        self._contents: dict[str, bytes] = {}
        self._left_out: dict[str, LeftOut] = {}
        self._looked_at: set[str] = set()
        self._searched: set[str] = set()
        self._library_folders = _library_folders()
        self._is_written = False
        self._has_failed = False

    def update(self, n_steps: int = 0) -> None:
        """Read the files that are new and let the writer write them. Never raises: the script must run.

        n_steps: made so far. Cells of a notebook are read again only if it has grown: one that does not train may begin
        another run, and is not part of this one.
        """
        try:
            n_known = len(self._files) + len(self._left_out)
            if self._cells is not None and n_steps > self._n_steps_read:
                self._n_steps_read = n_steps
                self._read_cells(self._cells)
            for path in self._new_paths():
                self._read(path)
            if len(self._files) + len(self._left_out) > n_known or not self._is_written:
                self._is_written = True
                main = self._main if self._cells is None else self._folder / CELLS
                files_in_order = tuple(self._files.values())
                code = RecordedCode(files_in_order, self._relative(main), self._git, tuple(self._left_out.values()))
                contents = dict(self._contents)
                self._put(lambda: self._write(code, contents))
        except Exception as error:  # A module of the script may be anything.
            self._fail(repr(error))

    def _read_cells(self, cells: SessionCells) -> None:
        """Take the cells of the run, and the ones before it, in place of those that were read before."""
        for name, text in ((CELLS, cells.of_run), (CELLS_BEFORE, cells.before)):
            path = self._relative(self._folder / name)
            assert path is not None
            if text.content:
                self._files[path] = CodeFile(path, hashlib.sha256(text.content).hexdigest(), len(text.content))
                self._contents[path] = text.content
                self._searched.discard(path)
            if text.n_left_out:
                self._leave_out(f"first cells of {path}", f"more than {LARGEST_FILE // 1024} kB")
        self._is_written = False

    def _write(self, code: RecordedCode, contents: dict[str, bytes]) -> ev.Event | None:
        """Runs in the writer's thread, which records the event that it returns."""
        try:
            write_code(self._run, code, contents)
        except OSError as error:
            return self._warning(files.advice(error))
        except ValueError as error:
            return self._warning(str(error))
        return None

    def _new_paths(self) -> Iterator[Path]:
        """Yield the script, the modules in the order of their import, then what is executed by its name."""
        if self._main is not None:
            yield from self._if_new(str(self._main))
        for name, module in list(sys.modules.items()):
            # Only plain modules: to read an attribute of another object may import something.
            if isinstance(module, ModuleType) and name != MAIN and not self._is_of_library(name):
                file = _file_of(module)
                if file.endswith(".py"):
                    yield from self._if_new(file)
        for name in names_in_arguments(self._arguments):
            yield from self._named(name)
        # The caller reads each file before it asks for the next one, which may be named in it.
        while new := self._contents.keys() - self._searched:
            self._searched |= new
            for path in sorted(new):
                for name in names_in_code(self._contents[path]):
                    yield from self._named(name)

    def _named(self, name: str) -> Iterator[Path]:
        """Yield the file of that name in the current folder or in that of the script."""
        paths = [os.path.join(folder, name) for folder in (self._current_folder, self._folder)]
        if (file := next(filter(os.path.isfile, paths), None)) is not None:
            yield from self._if_new(file)

    def _is_of_library(self, name: str) -> bool:
        """Return whether the module's top package is a library: what torch.compile generates is a module of torch."""
        top = name.partition(".")[0]
        return top == PACKAGE or _is_library(_file_of(sys.modules.get(top)), self._library_folders)

    def _if_new(self, file: str) -> Iterator[Path]:
        if file in self._looked_at:
            return
        self._looked_at.add(file)
        if _is_library(file, self._library_folders):
            return
        for path in (Path(os.path.abspath(file)), Path(os.path.realpath(file))):
            if path == self._main or _is_in(path, self._folder) or _is_in(path, self._root):
                yield path
                return

    def _read(self, path: Path) -> None:
        name = self._relative(path)
        assert name is not None
        if name in self._files:
            return
        try:
            with path.open("rb") as stream:
                content = stream.read(LARGEST_FILE + 1)
        except OSError as error:
            self._leave_out(name, error.strerror or str(error))
            self._fail(f"{name}: {error.strerror or error}")
            return
        if len(content) > LARGEST_FILE:
            self._leave_out(name, f"larger than {LARGEST_FILE // 1024} kB")
        elif len(self._files) >= MOST_FILES:
            self._leave_out(name, f"more than {MOST_FILES} files")
        elif sum(map(len, self._contents.values())) + len(content) > LARGEST_CODE:
            self._leave_out(name, f"more than {LARGEST_CODE // 2**20} MB of code")
        else:
            self._files[name] = CodeFile(name, hashlib.sha256(content).hexdigest(), len(content))
            self._contents[name] = content

    def _leave_out(self, name: str, reason: str) -> None:
        if len(self._left_out) < MOST_LEFT_OUT:
            self._left_out[name] = LeftOut(name, reason)

    def _relative(self, path: Path | None) -> str | None:
        """Return the path below the git work tree or the script's folder.

        The name alone of a script that is in neither.
        """
        if path is None:
            return None
        relative = path.relative_to(self._root) if path.is_relative_to(self._root) else Path(path.name)
        return relative.as_posix().encode("utf-8", "replace").decode()

    def _fail(self, reason: str) -> None:
        if (event := self._warning(reason)) is not None:
            self._put(event)

    def _warning(self, reason: str) -> ev.Event | None:
        """Return the event for the first failure, None after it."""
        if self._has_failed:
            return None
        self._has_failed = True
        return ev.Warned(step=0, message=f"the code is not recorded completely: {reason}")


def code_recorder(run: Path, put: Callable[[ev.Event | Job], None]) -> CodeRecorder | None:
    """Return the recorder of this process's code; None where the user does not want it, or nothing is known."""
    if os.environ.get(CODE_VARIABLE, "").lower() == "off":
        return None
    try:
        return CodeRecorder(run, put)
    except Exception as error:  # The current folder may have been removed.
        put(ev.Warned(step=0, message=f"the code is not recorded: {error!r}"))
        return None


def _library_folders() -> tuple[str, ...]:
    """Return the folders of Python's own modules and of this package, each with a separator at its end."""
    paths = sysconfig.get_paths()
    own_folder = str(Path(sys.modules[PACKAGE].__file__ or "").parent)
    return tuple(folder + os.sep for folder in (own_folder, paths["stdlib"], paths["platstdlib"]))


def _is_library(file: str, folders: tuple[str, ...]) -> bool:
    """Return whether a file belongs to an installed package, or is in one of the folders."""
    return file.startswith(folders) or any(f"{os.sep}{name}{os.sep}" in file for name in LIBRARIES)


def _file_of(module: ModuleType | None) -> str:
    """Return the file of a module, read without its `__getattr__`; empty where it has none."""
    file = module.__dict__.get("__file__") if isinstance(module, ModuleType) else None
    return file if isinstance(file, str) else ""


def _is_in(path: Path, folder: Path) -> bool:
    """Return whether a file is below a folder and in no hidden one, such as .venv, or .cache of a home folder."""
    return path.is_relative_to(folder) and not any(part.startswith(".") for part in path.relative_to(folder).parts)


def _main_file() -> Path | None:
    """Return the file of the script; None where there is none that is the user's, as in a notebook."""
    file = getattr(sys.modules.get(MAIN), "__file__", None)
    if not isinstance(file, str) or file.endswith(".pyc") or _is_library(file, _library_folders()):
        return None
    path = Path(os.path.realpath(file))
    return path if path.is_file() else None


def _folder_of(main: Path | None) -> Path:
    """Return the folder from which the script imports its modules.

    It is the script's own, or with `python -m` that of the top package.
    """
    if main is None:
        return Path.cwd()
    package = getattr(getattr(sys.modules[MAIN], "__spec__", None), "parent", "") or ""
    depth = len(package.split(".")) if package else 0
    return main.parents[min(depth, len(main.parents) - 1)]

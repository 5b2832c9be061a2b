"""The code that a run was recorded with: code.json says which files, and the folder code/ has their text."""

from dataclasses import asdict
from pathlib import Path, PurePosixPath

from pydantic import TypeAdapter, field_validator
from pydantic.dataclasses import dataclass

from tui_lab.core.runs.run_files import CODE, CODE_INFO
from tui_lab.util import files
from tui_lab.util.strict_json import dumps

CODE_VARIABLE = "TUI_LAB_CODE"
"""The variable of the environment that is "off" if the code is not to be recorded."""
LARGEST_FILE, LARGEST_CODE, MOST_FILES = 2**18, 2**20, 200
"""Bytes of a file that is kept and of all of them together, and their number."""
LARGEST_INFO = 2**20


@dataclass(frozen=True)
class CodeFile:
    """A file of the code. path: relative to the git work tree, or without one to the folder of the script."""

    path: str
    sha256: str
    bytes: int

    @field_validator("path")
    @classmethod
    def _is_inside(cls, path: str) -> str:
        # A run folder may come from somebody else.
        if not path or path.startswith("/") or ".." in PurePosixPath(path).parts:
            raise ValueError("outside the folder")
        return path


@dataclass(frozen=True)
class LeftOut:
    """A file whose text was not kept, and why."""

    path: str
    reason: str


@dataclass(frozen=True)
class GitState:
    """The git repository of the script when recording began.

    branch: empty if none is checked out. is_dirty: whether a tracked file differed from the commit; None: not known.
    """

    commit: str
    branch: str = ""
    is_dirty: bool | None = None


@dataclass(frozen=True)
class RecordedCode:
    """The code of a run. main: the path of the script, or of the cells of a notebook; None if neither is known.

    git: None without a repository or git.
    """

    files: tuple[CodeFile, ...] = ()
    main: str | None = None
    git: GitState | None = None
    left_out: tuple[LeftOut, ...] = ()


_CODE = TypeAdapter(RecordedCode)


def read_code(run: Path) -> RecordedCode | None:
    """Return the code of the run in this folder; None where it was not recorded, or code.json is damaged."""
    try:
        return _CODE.validate_json(files.read_text(run / CODE_INFO, LARGEST_INFO))
    except (OSError, ValueError):
        return None


def read_source(run: Path, file: CodeFile) -> str | None:
    """Return the text of a file of the code; None where it cannot be read."""
    path = run / CODE / file.path
    if path.resolve() != (run / CODE).resolve() / file.path:  # A symlink.
        return None
    try:
        with path.open("rb") as stream:
            content = stream.read(LARGEST_FILE + 1)
    except OSError:
        return None
    return content.decode("utf-8", "replace")


def write_code(run: Path, code: RecordedCode, contents: dict[str, bytes]) -> None:
    """Replace code.json and code/. contents: of the files, by path. Raises OSError."""
    with files.new_folder(run / CODE) as folder:
        for name, content in contents.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    files.write_text(run / CODE_INFO, dumps(asdict(code), indent=1) + "\n")

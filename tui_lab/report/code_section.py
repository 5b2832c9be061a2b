"""What a report says about the code that the run of a script kept."""

from dataclasses import dataclass
from pathlib import Path

from tui_lab.core.runs.code import CodeFile, GitState, read_code, read_source

MOST_FILES = 30
"""Files in the table; code.json in the run folder has all."""
Cells = tuple[str, ...]


@dataclass(frozen=True)
class CodeSection:
    """commit: of git, "" if not known. git_note: where it was and what differed from it.

    files, left_out: cells of the tables. n_more: files that are not in them.
    """

    commit: str = ""
    git_note: str = ""
    files: tuple[Cells, ...] = ()
    left_out: tuple[Cells, ...] = ()
    n_more: int = 0

    @classmethod
    def of(cls, run: Path) -> "CodeSection | None":
        """Return the section on the run in this folder; None where its code was not recorded."""
        code = read_code(run)
        if code is None:
            return None
        more = max(0, len(code.files) - MOST_FILES) + max(0, len(code.left_out) - MOST_FILES)
        return cls(
            commit="" if code.git is None else code.git.commit,
            git_note="no git commit is known" if code.git is None else _git_note(code.git),
            files=tuple(_file_cells(run, file) for file in code.files[:MOST_FILES]),
            left_out=tuple((left.path, left.reason) for left in code.left_out[:MOST_FILES]),
            n_more=more,
        )


def _git_note(git: GitState) -> str:
    changes = {
        True: "tracked files differed from it",
        False: "tracked files were as in it",
        None: "whether tracked files differed from it is not known",
    }
    return f"{f'branch {git.branch}; ' if git.branch else ''}{changes[git.is_dirty]}"


def _file_cells(run: Path, file: CodeFile) -> Cells:
    source = read_source(run, file)
    lines = "cannot be read" if source is None else f"{len(source.splitlines()):,}"
    return file.path, lines, f"{file.bytes:,}"

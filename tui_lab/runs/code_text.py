"""The code of a run, and what differs between that of two runs, as text."""

from collections.abc import Iterable
from pathlib import PurePosixPath

from tui_lab.core.runs.code import RecordedCode
from tui_lab.core.runs.code_diff import CodeDiff, FileDiff
from tui_lab.util.plural import counted

MOST_FILES = 6
"""Files that one line names."""
SHORT_COMMIT = 7
"""Characters of a commit that are shown, as git does."""


def code_diff_text(diff: CodeDiff) -> str:
    """Return the difference of the code of two runs in one line."""
    if diff.unrecorded:
        return f"the code of {' and '.join(diff.unrecorded)} was not recorded"
    if not diff.files:
        return "the code is the same" + ("" if diff.is_complete else ", but for files that were left out")
    return f"the code differs: {files_text(diff.files)}"


def files_text(files: Iterable[FileDiff]) -> str:
    """Return the names of the files with the number of lines that differ: "train.py (1 line)"."""
    texts = [_file_text(file) for file in files]
    more = len(texts) - MOST_FILES
    return ", ".join(texts[:MOST_FILES]) + (f" and {more} more" if more > 0 else "")


def _file_text(file: FileDiff) -> str:
    match file.change:
        case "only_first":
            return f"{file.path} (only in the first)"
        case "only_second":
            return f"{file.path} (only in the second)"
        case "changed":
            return f"{file.path} ({counted(file.lines, 'line')})"


def code_diff_lines(diff: CodeDiff) -> list[str]:
    """Return the unified diff of the files that differ."""
    return [line for file in diff.files for line in file.text.splitlines()]


def recorded_code_text(code: RecordedCode) -> str:
    """Return the code in one line: "train.py and 2 other files, git 1a2b3c4 with changes"."""
    paths = [file.path for file in code.files]
    name = PurePosixPath(code.main).name if code.main in paths and code.main is not None else ""
    n_others = len(paths) - bool(name)
    files = f"{counted(n_others, 'other file' if name else 'file')}"
    text = f"{name} and {files}" if name and n_others else name or files
    if code.git is not None:
        text += f", git {code.git.commit[:SHORT_COMMIT]}{' with changes' if code.git.is_dirty else ''}"
    if code.left_out:
        text += f"; {len(code.left_out)} left out ({code.left_out[0].path}: {code.left_out[0].reason}"
        text += ", …)" if len(code.left_out) > 1 else ")"
    return text

"""What differs between the code of two runs: which files, how many lines, and the text of the difference."""

import difflib
import posixpath
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

from tui_lab.core.runs.code import CodeFile, RecordedCode, read_code, read_source
from tui_lab.util.strict_json import dumps

Change = Literal["changed", "only_first", "only_second"]


@dataclass(frozen=True)
class FileDiff:
    """A file that differs. lines: replaced, added and removed ones, a replaced one once; text: a unified diff."""

    path: str
    change: Change
    lines: int
    text: str

    def to_json(self) -> dict[str, Any]:
        return {"path": self.path, "change": self.change, "lines": self.lines}


@dataclass(frozen=True)
class CodeDiff:
    """The code of two runs. unrecorded: those of the two whose code was not recorded; then no file is compared.

    is_complete: whether no file was left out of either.
    """

    runs: tuple[str, str]
    files: tuple[FileDiff, ...] = ()
    unrecorded: tuple[str, ...] = ()
    is_complete: bool = True

    @property
    def is_same(self) -> bool:
        """Whether all of the code is known to be the same."""
        return not self.files and not self.unrecorded and self.is_complete

    def to_json(self) -> dict[str, Any]:
        files = [file.to_json() for file in self.files]
        unrecorded = list(self.unrecorded)
        return {"runs": list(self.runs), "unrecorded": unrecorded, "files": files, "is_complete": self.is_complete}


def diff_code(first: tuple[str, Path], second: tuple[str, Path]) -> CodeDiff:
    """Compare the code of two runs, each a name and the folder.

    The scripts are compared with each other whatever they are called, and modules by their place relative to them: so
    two copies of a project are equal. A file that one run has left out is not compared.
    """
    names = (first[0], second[0])
    codes = [read_code(path) for _, path in (first, second)]
    a, b = codes
    if a is None or b is None:
        missing = [name for name, code in zip(names, codes, strict=True) if code is None]
        return CodeDiff(names, unrecorded=tuple(missing), is_complete=False)
    files = _diff_files((a, first[1]), (b, second[1]), names)
    return CodeDiff(names, tuple(files), is_complete=not (a.left_out or b.left_out))


def code_digest(run: Path) -> str:
    """Return a text that is equal for two runs with the same code; empty where it was not recorded."""
    code = read_code(run)
    if code is None:
        return ""
    hashes = sorted((place, file.sha256) for place, file in _by_place(code).items())
    return sha256(dumps(hashes).encode()).hexdigest()


def _diff_files(
    a: tuple[RecordedCode, Path], b: tuple[RecordedCode, Path], names: tuple[str, str]
) -> Iterator[FileDiff]:
    files = [_by_place(code) for code, _ in (a, b)]
    left_out = {_place(code, left.path) for code, _ in (a, b) for left in code.left_out}
    for place in dict.fromkeys([*files[0], *files[1]]):
        pair = (files[0].get(place), files[1].get(place))
        if place in left_out or (pair[0] and pair[1] and pair[0].sha256 == pair[1].sha256):
            continue
        texts = [
            "" if file is None else read_source(folder, file) or ""
            for file, (_, folder) in zip(pair, (a, b), strict=True)
        ]
        lines = [text.splitlines() for text in texts]
        yield _file_diff(pair, lines, names)


def _file_diff(
    pair: tuple[CodeFile | None, CodeFile | None], lines: list[list[str]], names: tuple[str, str]
) -> FileDiff:
    paths = [file.path for file in pair if file is not None]
    change: Change = "changed" if len(paths) == 2 else "only_second" if pair[0] is None else "only_first"
    opcodes = difflib.SequenceMatcher(None, lines[0], lines[1]).get_opcodes()
    n_lines = sum(max(i2 - i1, j2 - j1) for tag, i1, i2, j1, j2 in opcodes if tag != "equal")
    headings = [f"{name}/{path}" for name, path in zip(names, (paths[0], paths[-1]), strict=True)]
    text = "\n".join(difflib.unified_diff(lines[0], lines[1], headings[0], headings[1], lineterm=""))
    return FileDiff(paths[-1], change, n_lines, text)


def _by_place(code: RecordedCode) -> Mapping[str, CodeFile]:
    return {_place(code, file.path): file for file in code.files}


def _place(code: RecordedCode, path: str) -> str:
    """Return the path relative to the folder of the script; empty for the script itself."""
    return "" if path == code.main else posixpath.relpath(path, posixpath.dirname(code.main or "") or ".")

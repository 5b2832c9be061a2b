"""What two runs differ in from their start: settings and code, as far as they are known."""

from dataclasses import dataclass
from typing import Any

from tui_lab.core.config.script import CAPTURED
from tui_lab.core.runs.catalog import RunRow, config_differences
from tui_lab.core.runs.code_diff import CodeDiff, diff_code
from tui_lab.core.runs.seed_groups import NAMES_OF_OUTPUT


@dataclass(frozen=True)
class StartDifference:
    """settings: the keys that differ; code: of two scripts, else None; unknown: runs whose settings are not known."""

    settings: tuple[str, ...] = ()
    code: CodeDiff | None = None
    unknown: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        files = [] if self.code is None else [file.path for file in self.code.files]
        return {"settings": list(self.settings), "code": files, "unknown": list(self.unknown)}


def start_difference(a: RunRow, b: RunRow) -> StartDifference:
    """Return what two runs differ in from the start, without the names of their outputs."""
    unknown = tuple(row.name for row in (a, b) if row.kind == "imported")
    different = [] if unknown else [key for key in config_differences([a, b]) if not _is_output(key)]
    return StartDifference(tuple(different), code_difference(a, b), unknown)


def code_difference(a: RunRow, b: RunRow) -> CodeDiff | None:
    """Return what differs between the code of two runs; None unless both are of scripts."""
    if a.kind != "script" or b.kind != "script":
        return None
    return diff_code((a.name, a.path), (b.name, b.path))


def _is_output(key: str) -> bool:
    return key.startswith(CAPTURED) and key.removeprefix(CAPTURED) in NAMES_OF_OUTPUT

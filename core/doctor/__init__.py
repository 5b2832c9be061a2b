"""The doctor: names the cause of a training that does not learn.

from tui_lab.core.doctor import Case, examine
report = examine(Case(model, (x, y), optimizer=optimizer))
assert report.healthy, report.findings
"""

from typing import TYPE_CHECKING, Any

from tui_lab.core.doctor.findings import Finding, Report, Skipped

# A front end shows findings before torch is there.
if TYPE_CHECKING:
    from tui_lab.core.doctor.case import Case, examine

__all__ = ["Case", "Finding", "Report", "Skipped", "examine"]


def __getattr__(name: str) -> Any:
    if name in ("Case", "examine"):
        from tui_lab.core.doctor import case

        return getattr(case, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

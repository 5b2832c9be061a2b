"""A terminal lab for training your own transformer: watch, steer and debug the run live.

The public API. Importing it loads neither torch nor textual; a name loads what it needs when it is first used.

    from tui_lab import Case, examine

    report = examine(Case(model, (x, y), optimizer=optimizer))
    assert report.healthy, report.findings
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tui_lab.core.doctor.findings import Finding, Report
    from tui_lab.core.doctor.program.case import Case
    from tui_lab.core.doctor.program.case_target import examine
    from tui_lab.core.watch.api import WatchedRun, watch
    from tui_lab.core.watch.huggingface import HuggingFaceCallback as HuggingFaceCallback
    from tui_lab.core.watch.lightning import LightningCallback as LightningCallback

__all__ = ["Case", "Finding", "Report", "WatchedRun", "examine", "watch"]
# HuggingFaceCallback and LightningCallback are left out: `import *` and `help` would need their libraries.

_MODULES = {
    "Case": "tui_lab.core.doctor.program.case",
    "examine": "tui_lab.core.doctor.program.case_target",
    "Finding": "tui_lab.core.doctor.findings",
    "Report": "tui_lab.core.doctor.findings",
    "HuggingFaceCallback": "tui_lab.core.watch.huggingface",
    "LightningCallback": "tui_lab.core.watch.lightning",
    "WatchedRun": "tui_lab.core.watch.api",
    "watch": "tui_lab.core.watch.api",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)

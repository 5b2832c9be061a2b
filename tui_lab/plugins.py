"""What the author of a plug-in needs: docs/guide/plugins.md shows how. A name loads its module when it is first used.

A task imports neither torch nor the doctor by it, and a watcher no torch.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tui_lab.core.doctor.findings import Finding, NotApplicable, NotJudged
    from tui_lab.core.doctor.plugin_checks import Examined
    from tui_lab.core.doctor.plugin_findings import finding
    from tui_lab.core.doctor.plugin_watchers import Watcher
    from tui_lab.core.events import Changed, Evaluated, Event, Failed, Logged, Started, StepDone, Stopped
    from tui_lab.data.corpora.encode import Corpus, load_corpus
    from tui_lab.data.dataset import IGNORED, Dataset, Task, TaskSettings
    from tui_lab.data.tokenizers import CharTokenizer, DigitsTokenizer, Gpt2Tokenizer, Tokenizer, decode
    from tui_lab.util.errors import DataError

__all__ = [
    "IGNORED",
    "Changed",
    "CharTokenizer",
    "Corpus",
    "DataError",
    "Dataset",
    "DigitsTokenizer",
    "Evaluated",
    "Event",
    "Examined",
    "Failed",
    "Finding",
    "Gpt2Tokenizer",
    "Logged",
    "NotApplicable",
    "NotJudged",
    "Started",
    "StepDone",
    "Stopped",
    "Task",
    "TaskSettings",
    "Tokenizer",
    "Watcher",
    "decode",
    "finding",
    "load_corpus",
]

_MODULES = {
    "tui_lab.core.doctor.findings": ("Finding", "NotApplicable", "NotJudged"),
    "tui_lab.core.doctor.plugin_checks": ("Examined",),
    "tui_lab.core.doctor.plugin_findings": ("finding",),
    "tui_lab.core.doctor.plugin_watchers": ("Watcher",),
    "tui_lab.core.events": (
        "Changed", "Evaluated", "Event", "Failed", "Logged", "Started", "StepDone", "Stopped",
    ),
    "tui_lab.data.corpora.encode": ("Corpus", "load_corpus"),
    "tui_lab.data.dataset": ("IGNORED", "Dataset", "Task", "TaskSettings"),
    "tui_lab.data.tokenizers": ("CharTokenizer", "DigitsTokenizer", "Gpt2Tokenizer", "Tokenizer", "decode"),
    "tui_lab.util.errors": ("DataError",),
}  # fmt: skip


def __getattr__(name: str) -> Any:
    module = next((module for module, names in _MODULES.items() if name in names), None)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(module), name)


def __dir__() -> list[str]:
    return sorted(__all__)

"""The text of the cells that a notebook, or another session of IPython, has executed."""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from tui_lab.core.runs.code import LARGEST_FILE

SEPARATOR = "# %%\n"
"""Begins a cell in a Python file, for Jupytext, VS Code and others."""


@dataclass(frozen=True)
class CellText:
    """Cells in the order in which they were executed. n_left_out: the first ones, which exceed LARGEST_FILE."""

    content: bytes
    n_left_out: int


class SessionCells:
    """Those before a run, and those since: the cell that creates this object is the first one of the run."""

    def __init__(self, history: Sequence[str]) -> None:
        """history: grows with each cell that is executed; the first item stands for none."""
        self._history = history
        self._first = max(0, len(history) - 1)

    @classmethod
    def of_this_process(cls) -> "SessionCells | None":
        """Return the cells of the shell that runs this code; None outside of IPython."""
        history = getattr(getattr(shell(), "history_manager", None), "input_hist_raw", None)
        return cls(history) if isinstance(history, list) else None

    @property
    def of_run(self) -> CellText:
        """The cells of the run so far, as they were executed."""
        return _text(self._history[self._first :])

    @property
    def before(self) -> CellText:
        """The cells before it, each text once, where it was executed last."""
        earlier = self._history[1 : self._first]
        return _text(reversed(dict.fromkeys(reversed(earlier))))


def shell() -> Any:
    """Return the shell of IPython that runs this code; None without one. IPython is not imported for it."""
    get_ipython = getattr(sys.modules.get("IPython"), "get_ipython", None)
    return get_ipython() if callable(get_ipython) else None


def _text(cells: Iterable[str]) -> CellText:
    """Return the last cells that fit into a file of the code."""
    texts = [f"{SEPARATOR}{cell.rstrip()}\n".encode("utf-8", "replace") for cell in cells if cell.strip()]
    n_bytes = 0
    n_kept = 0
    for text in reversed(texts):
        n_bytes += len(text)
        if n_bytes > LARGEST_FILE:
            break
        n_kept += 1
    return CellText(b"".join(texts[len(texts) - n_kept :]), len(texts) - n_kept)

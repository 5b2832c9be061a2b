"""The ends of notebook cells, as IPython reports them. IPython is not imported: it is used only if it runs the code."""

from collections.abc import Callable
from typing import Any

from tui_lab.core.watch.code.session_cells import shell
from tui_lab.core.watch.steering.steering import StopRequested

EVENT = "post_run_cell"


class NotebookCells:
    """Notes the error of the cell that trained last; outside of IPython there is none."""

    def __init__(self, n_steps: Callable[[], int], on_trained: Callable[[], None], on_stop: Callable[[], None]) -> None:
        """n_steps: the steps made so far. on_trained: called when a cell that trains has ended.

        on_stop: called after it if StopRequested has ended the cell.

        The cell that creates this object counts as one that trains.
        """
        self._n_steps = n_steps
        self._on_trained = on_trained
        self._on_stop = on_stop
        self._n_steps_before = -1
        self._error: BaseException | None = None
        self._shell = shell()
        if self._shell is not None:
            self._shell.events.register(EVENT, self._cell_ended)

    @property
    def are_seen(self) -> bool:
        """Whether IPython runs the code."""
        return self._shell is not None

    @property
    def error(self) -> BaseException | None:
        """What ended the cell that trained last; None if the code has trained since."""
        return self._error if self._n_steps() == self._n_steps_before else None

    def close(self) -> None:
        """Note nothing any more."""
        if self._shell is not None:
            self._shell.events.unregister(EVENT, self._cell_ended)
            self._shell = None

    def _cell_ended(self, result: Any) -> None:
        n_steps = self._n_steps()
        if n_steps != self._n_steps_before:
            self._n_steps_before = n_steps
            self._error = getattr(result, "error_in_exec", None)
            self._on_trained()
            if isinstance(self._error, StopRequested):
                self._on_stop()

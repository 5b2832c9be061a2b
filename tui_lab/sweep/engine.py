"""The interface of what trains the trials of a sweep."""

from collections.abc import Sequence
from typing import Protocol

from tui_lab.core.runs.sweep.folder import TrialRow


class Engine(Protocol):
    """Trains trials, on this machine or elsewhere."""

    @property
    def busy(self) -> bool:
        """Whether a trial that this process started is still training."""

    def tend(self, rows: Sequence[TrialRow]) -> None:
        """Collect the trials that have ended and start others while there is room. Called repeatedly.

        Raises RunError if no trial can be trained.
        """

    def stop(self) -> None:
        """Request that all trials save and stop, and start no more."""

    def kill(self) -> None:
        """End all trials at once and release their locks."""

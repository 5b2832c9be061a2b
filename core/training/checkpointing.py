"""When checkpoints are written, and what happens when one cannot be."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from tui_lab.core import events as ev
from tui_lab.core.training.checkpoint import Checkpoint, Weights
from tui_lab.util.files import advice

BEST_SHARE = 0.02
"""Of the training time that may be spent on writing the best checkpoints, besides the first one."""
Save = Callable[[Checkpoint], str]
"""Writes a checkpoint and returns its path relative to the run folder. Raises OSError."""


class Checkpointing:
    """Writes the checkpoints of one run, and tracks whether the current state is on disk.

    saved_step: the step of a checkpoint that is on disk already. writes: false on every process but rank 0. clock:
    seconds.
    """

    def __init__(
        self,
        save: Save | None,
        *,
        best: Weights | None = None,
        saved_step: int | None = None,
        writes: bool = True,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._save = save
        self._saved_step = saved_step
        self._writes = writes
        self._clock = clock
        self._best_seconds = 0.0
        """Spent on writing the best checkpoints."""
        self.best = best
        """The weights of the best evaluation so far, a part of every checkpoint."""
        self.failed = False
        """Whether the last checkpoint could not be written."""

    def mark_dirty(self) -> None:
        """The state changed without a step: a live change or an evaluation."""
        self._saved_step = None

    def is_due(self, step: int, every: int) -> bool:
        """Return whether to save now, when saving every `every` steps (0: only at the end)."""
        return self._save is not None and every > 0 and step > 0 and step % every == 0 and self._saved_step != step

    def save(
        self, step: int, state: Callable[[], Checkpoint], *, force: bool = False, by_hand: bool = False
    ) -> Iterator[ev.Event]:
        """Write `state()` unless this state is on disk or `force` is set. A failed write yields SaveFailed.

        by_hand: whether the user asked for it, so that it is kept.
        """
        if self._save is None or (self._saved_step == step and not force):
            return
        if not self._writes:
            # The other processes go through the same events, so that none waits for another.
            self._saved_step = step
            return
        checkpoint = replace(state(), by_hand=by_hand)
        self._saved_step = step
        try:
            path = self._save(checkpoint)
        except OSError as error:
            self.failed = True
            message = f"checkpoint not saved: {advice(error)}; the previous one is unchanged"
            yield ev.SaveFailed(step=step, message=message, path=str(error.filename or ""))
            return
        self.failed = False
        yield ev.Saved(step=step, path=path)

    def save_best(
        self, step: int, state: Callable[[], Checkpoint], *, every: int, trained_seconds: float
    ) -> Iterator[ev.Event]:
        """Write `state()`, which is the best so far, if that does not cost too much of the training time.

        every: as in `is_due`. trained_seconds: the time of all steps until now.
        """
        # A step that is saved anyway is left to that: on the other processes, which never write, it has to be due too.
        costs_too_much = self._best_seconds > BEST_SHARE * trained_seconds
        if not self._writes or step == 0 or costs_too_much or self.is_due(step, every):
            return
        start = self._clock()
        try:
            yield from self.save(step, state)
        except (RuntimeError, MemoryError) as error:
            self._best_seconds = math.inf
            yield _no_memory(step, error)
        self._best_seconds += max(0.0, self._clock() - start)

    def save_after_failure(self, step: int, state: Callable[[], Checkpoint]) -> Iterator[ev.Event]:
        """As `save`, when memory may be too short to copy the weights: that is a warning, not an error."""
        try:
            yield from self.save(step, state, force=self.failed)
        except (RuntimeError, MemoryError) as error:
            yield _no_memory(step, error)


def _no_memory(step: int, error: Exception) -> ev.Warned:
    message = f"checkpoint not saved: {str(error) or 'not enough memory'}; the previous one is unchanged"
    return ev.Warned(step=step, message=message)

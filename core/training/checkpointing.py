"""When checkpoints are written, and what happens when one cannot be."""

from collections.abc import Callable, Iterator

from tui_lab.core import events as ev
from tui_lab.core.training.checkpoint import Checkpoint, Weights
from tui_lab.util.files import advice

Save = Callable[[Checkpoint], str]
"""Writes a checkpoint and returns its path relative to the run folder. Raises OSError."""


class Checkpointing:
    """Writes the checkpoints of one run and knows whether the current state is on disk.

    saved_step: the step of a checkpoint that is on disk already. writes: false on every process but rank 0.
    """

    def __init__(
        self, save: Save | None, *, best: Weights | None = None, saved_step: int | None = None, writes: bool = True
    ) -> None:
        self._save = save
        self._saved_step = saved_step
        self._writes = writes
        self.best = best
        """The weights of the best evaluation so far, a part of every checkpoint."""
        self.failed = False
        """Whether the last checkpoint could not be written."""

    def mark_dirty(self) -> None:
        """The state changed without a step: a live change or an evaluation."""
        self._saved_step = None

    def is_due(self, step: int, every: int) -> bool:
        """Whether to save now, when saving every `every` steps (0: only at the end)."""
        return self._save is not None and every > 0 and step > 0 and step % every == 0 and self._saved_step != step

    def save(self, step: int, state: Callable[[], Checkpoint], *, force: bool = False) -> Iterator[ev.Event]:
        """Write `state()` unless this state is on disk or `force` is set. A failed write yields SaveFailed."""
        if self._save is None or (self._saved_step == step and not force):
            return
        if not self._writes:
            # The other processes go through the same events, so that none waits for another.
            self._saved_step = step
            return
        checkpoint = state()
        self._saved_step = step
        try:
            path = self._save(checkpoint)
        except OSError as error:
            self.failed = True
            message = f"checkpoint not saved: {advice(error)}; the last one is intact"
            yield ev.SaveFailed(step=step, message=message, path=str(error.filename or ""))
            return
        self.failed = False
        yield ev.Saved(step=step, path=path)

    def save_after_failure(self, step: int, state: Callable[[], Checkpoint]) -> Iterator[ev.Event]:
        """As `save`, when memory may be too short to copy the weights: that is a warning, not an error."""
        try:
            yield from self.save(step, state, force=self.failed)
        except (RuntimeError, MemoryError) as error:
            message = f"checkpoint not saved: {str(error) or 'not enough memory'}; the last one is intact"
            yield ev.Warned(step=step, message=message)

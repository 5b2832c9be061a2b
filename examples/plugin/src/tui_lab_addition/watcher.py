"""A watcher of runs."""

from collections.abc import Iterator

from tui_lab.plugins import Event, Finding, StepDone, finding

STEPS = 200
FALLEN = 0.95
"""The running loss after STEPS over the loss of the first step, at most, in a run that learns."""


class SlowStart:
    """Gives a hint if the loss has hardly fallen after 200 steps. One object is made for each run."""

    def __init__(self) -> None:
        self._first_loss: float | None = None

    def update(self, event: Event) -> Iterator[Finding]:
        """Take the next event of the run, and yield hints."""
        if not isinstance(event, StepDone):
            return
        if event.step == 1:
            self._first_loss = event.loss
        if event.step == STEPS and self._first_loss is not None and event.loss_ema > FALLEN * self._first_loss:
            yield finding(
                "slow_start",
                f"The loss has hardly fallen in {STEPS} steps.",
                evidence=f"{self._first_loss:.3f} at the first step, {event.loss_ema:.3f} now",
                why="A healthy run falls fastest at its beginning.",
                fix="Find a learning rate: tui-lab lr-find.",
            )

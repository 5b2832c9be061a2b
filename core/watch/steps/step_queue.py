"""Complete steps whose values have not been read yet."""

from collections.abc import Callable

from torch import Tensor

from tui_lab.core.watch.steps.open_step import OpenStep, StepValues
from tui_lab.core.watch.steps.values import LaterValues

SECONDS_BETWEEN_COPIES = 0.2
MAX_STEPS = 64
"""Steps that are copied together, at most."""


class StepQueue:
    """Gives steps with their values, in order.

    The values of many steps are read together: in a small model that takes half the time of reading them one by one. On
    a GPU they are copied first, and are ready once that copy is done, so that neither the GPU nor the script waits.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._steps: list[OpenStep] = []
        self._copied: tuple[list[OpenStep], list[int], LaterValues] | None = None
        """Steps, how many scalars each has, and their values."""
        self._copied_at = float("-inf")

    def __len__(self) -> int:
        return len(self._steps) + (0 if self._copied is None else len(self._copied[0]))

    def add(self, step: OpenStep) -> None:
        self._steps.append(step)

    def take(self, *, wait: bool) -> list[tuple[OpenStep, StepValues]]:
        """Return the steps that are ready; with `wait` all of them."""
        ready = []
        while True:
            if self._copied is not None and (wait or self._copied[2].is_complete):
                ready += self._read(*self._copied)
                self._copied = None
            if self._copied is not None or not self._steps or not (wait or self._copy_is_due()):
                return ready
            self._copy()

    def _copy_is_due(self) -> bool:
        return len(self._steps) >= MAX_STEPS or self._clock() - self._copied_at >= SECONDS_BETWEEN_COPIES

    def _copy(self) -> None:
        steps = self._steps
        self._steps = []
        self._copied_at = self._clock()
        scalars = [step.scalars for step in steps]
        rows = [step.row_hashes for step in steps if isinstance(step.row_hashes, Tensor)]
        values = LaterValues([scalar for of_step in scalars for scalar in of_step], rows)
        self._copied = (steps, [len(of_step) for of_step in scalars], values)

    def _read(self, steps: list[OpenStep], counts: list[int], values: LaterValues) -> list[tuple[OpenStep, StepValues]]:
        numbers, rows = values.read()
        ready = []
        for step, n in zip(steps, counts, strict=True):
            row_hashes = None
            if isinstance(step.row_hashes, Tensor):
                row_hashes = rows.pop(0)
            elif step.row_hashes is not None:
                row_hashes = step.row_hashes.tolist()
            ready.append((step, step.values(numbers[:n], row_hashes)))
            numbers = numbers[n:]
        return ready

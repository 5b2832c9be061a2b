"""Evaluations of a script: the losses that it computes without gradients between two steps."""

import sys
from collections import defaultdict
from dataclasses import dataclass, field
from types import FrameType

from torch import Tensor

from tui_lab.core.watch.frames import locals_of

SPLIT_NAMES = ("split", "phase", "mode", "stage", "subset", "partition")
"""Names of the local variable in which evaluation functions keep the part of the data."""
VALIDATION = ("val", "valid", "validation", "dev", "eval", "evaluation", "test")
MAX_DEPTH = 24
"""Frames that are searched for the name of the part."""
MAX_WAITING = 64
"""Values kept as tensors before they are read: an evaluation may take thousands of batches."""


@dataclass
class _Losses:
    """The losses of one part of the data."""

    total: float = 0.0
    n: int = 0
    examples: int = 0
    waiting: list[Tensor] = field(default_factory=list)

    def read(self) -> None:
        for tensor in self.waiting:
            self.total += float(tensor)
        self.n += len(self.waiting)
        self.waiting.clear()


@dataclass(frozen=True)
class Evaluation:
    """The mean loss of each part of the data, over its batches. examples: of the validation part."""

    losses: dict[str, float]
    validation: str
    examples: int
    is_cross_entropy: bool

    @property
    def val_loss(self) -> float:
        return self.losses[self.validation]


@dataclass
class EvaluationCall:
    """The latest call of the model without gradients. n_rows: of its batch. losses: computed while it ran."""

    is_running: bool = False
    n_rows: int = 0
    losses: list[Tensor] = field(default_factory=list)


class Evaluations:
    """Collects the losses of one evaluation at a time."""

    def __init__(self) -> None:
        self._losses: dict[str, _Losses] = defaultdict(_Losses)
        self._is_cross_entropy = True

    @property
    def is_open(self) -> bool:
        return bool(self._losses)

    def add(self, loss: Tensor, n_examples: int, *, is_cross_entropy: bool) -> None:
        """Add the loss of one batch; the calling functions tell of which part of the data it is."""
        losses = self._losses[split_name(sys._getframe(1))]
        losses.waiting.append(loss.detach())
        losses.examples += n_examples
        self._is_cross_entropy = self._is_cross_entropy and is_cross_entropy
        if len(losses.waiting) >= MAX_WAITING:
            losses.read()

    def finish(self) -> Evaluation | None:
        """End the evaluation and return its means; None if there was none. Waits for the values."""
        if not self._losses:
            return None
        for losses in self._losses.values():
            losses.read()
        means = {split: losses.total / losses.n for split, losses in self._losses.items()}
        validation = next((split for split in means if split.lower() in VALIDATION), next(iter(means)))
        result = Evaluation(means, validation, self._losses[validation].examples, self._is_cross_entropy)
        self._losses.clear()
        self._is_cross_entropy = True
        return result


def split_name(frame: FrameType | None) -> str:
    """The part of the data that the functions which called `frame` work on, such as "val"; "" if they do not say."""
    for _ in range(MAX_DEPTH):
        if frame is None:
            break
        code = frame.f_code
        for name in SPLIT_NAMES:
            if name in code.co_varnames and "site-packages" not in code.co_filename:
                value = locals_of(frame).get(name)
                if isinstance(value, str) and 0 < len(value) <= 40:
                    return value
        frame = frame.f_back
    return ""

"""Evaluations of a script: the losses that it computes without gradients between two steps."""

from collections import defaultdict
from dataclasses import dataclass, field

from torch import Tensor

from tui_lab.core.watch.data_parts import VALIDATION, DataPart, is_training, is_validation

MAX_WAITING = 64
"""Values kept as tensors before they are read: an evaluation may take thousands of batches."""


@dataclass
class _Losses:
    """The losses of one part of the data."""

    total: float = 0.0
    n: int = 0
    examples: int = 0
    waiting: list[Tensor] = field(default_factory=list)
    sites: list[tuple[int, ...]] = field(default_factory=list)
    """Where they were computed, each time that this changed; empty where the names are clear."""

    @property
    def may_be_several(self) -> bool:
        """Whether losses from one place follow those from another, as those of two parts of the data do."""
        return 1 < len(self.sites) == len(set(self.sites))

    def add(self, loss: Tensor, n_examples: int, site: tuple[int, ...]) -> None:
        self.waiting.append(loss.detach())
        self.examples += n_examples
        if not self.sites or self.sites[-1] != site:
            self.sites.append(site)
        if len(self.waiting) >= MAX_WAITING:
            self.read()

    def read(self) -> None:
        for tensor in self.waiting:
            self.total += float(tensor)
        self.n += len(self.waiting)
        self.waiting.clear()


@dataclass(frozen=True)
class Evaluation:
    """The mean loss of each part of the data, over its batches. examples: of the validation part.

    validation: the name of that part; None if it is not known which one it is. reason: why not.
    """

    losses: dict[str, float]
    validation: str | None
    examples: int
    is_cross_entropy: bool
    reason: str = ""

    @property
    def val_loss(self) -> float | None:
        """The mean loss of the validation part; None if it is not known which one that is."""
        return None if self.validation is None else self.losses[self.validation]


@dataclass
class EvaluationCall:
    """The latest call of the model without gradients.

    part: of the data; None: there was no call yet. n_rows: of its batch. losses: computed while it ran.
    """

    part: DataPart | None = None
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

    def add(self, loss: Tensor, part: DataPart, n_examples: int, *, is_cross_entropy: bool) -> None:
        """Add the loss of one batch of a part of the data."""
        self._losses[part.name].add(loss, n_examples, part.site)
        self._is_cross_entropy = self._is_cross_entropy and is_cross_entropy

    def finish(self) -> Evaluation | None:
        """End the evaluation and return its means; None if there was none. Waits for the values."""
        if not self._losses:
            return None
        for losses in self._losses.values():
            losses.read()
        validation, reason = self._validation()
        result = Evaluation(
            losses={name: losses.total / losses.n for name, losses in self._losses.items()},
            validation=validation,
            examples=0 if validation is None else self._losses[validation].examples,
            is_cross_entropy=self._is_cross_entropy,
            reason=reason,
        )
        self._losses.clear()
        self._is_cross_entropy = True
        return result

    def _validation(self) -> tuple[str | None, str]:
        """Return the name of the validation part, or None and why it is not known."""
        named = sorted(filter(is_validation, self._losses), key=lambda name: VALIDATION.index(name.lower()))
        others = named[:1] or [name for name in self._losses if not is_training(name)]
        if not others:
            return None, "the script evaluated its training part only"
        if len(others) > 1:
            return None, f"none of the parts {', '.join(name or 'without a name' for name in others)} is called val"
        if self._losses[others[0]].may_be_several:
            return (
                None,
                "the script evaluated at several places, maybe on several parts of the data without names",
            )
        return others[0], ""

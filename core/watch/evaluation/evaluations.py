"""Evaluations of a script: the losses that it computes without gradients between two steps."""

from collections import defaultdict
from dataclasses import dataclass, field

from tui_lab.core.watch.code.data_parts import VALIDATION, DataPart, is_training, is_validation
from tui_lab.core.watch.evaluation.loss_means import BatchLoss, LossMeans, Numbers, Weights
from tui_lab.core.watch.evaluation.same_memory import SameMemory


@dataclass
class _Losses:
    """The losses of one part of the data."""

    means: LossMeans = field(default_factory=LossMeans)
    sites: list[tuple[int, ...]] = field(default_factory=list)
    """Where they were computed, each time that this changed; empty where the names are clear."""

    @property
    def may_be_several(self) -> bool:
        """Whether losses from one place follow those from another, as those of two parts of the data do."""
        return 1 < len(self.sites) == len(set(self.sites))

    def add(self, loss: BatchLoss, site: tuple[int, ...], sums: Numbers) -> None:
        self.means.add(loss, sums)
        if not self.sites or self.sites[-1] != site:
            self.sites.append(site)


@dataclass(frozen=True)
class Evaluation:
    """The mean loss of each part of the data, see LossMeans. examples: of the validation part.

    per_target: the loss of a target of the validation part, if its losses are sums, else None.
    is_mean_known: whether it is known how the script weights the batches of the validation part.
    validation: the name of that part; None if it is not known which one it is. reason: why not.
    warning: what the user should know of it.
    """

    losses: dict[str, float]
    validation: str | None
    examples: int
    is_cross_entropy: bool
    reason: str = ""
    per_target: float | None = None
    is_mean_known: bool = True
    warning: str = ""

    @property
    def val_loss(self) -> float | None:
        """The mean loss of the validation part; None if it is not known which one that is."""
        return None if self.validation is None else self.losses[self.validation]


@dataclass
class EvaluationCall:
    """The latest call of the model without gradients.

    part: of the data; None: there was no call yet. n_rows: of its batch. losses: computed while it ran.
    output: what it returned. has_loss: whether it returned a loss, or one was computed of exactly its output since.
    """

    part: DataPart | None = None
    is_running: bool = False
    n_rows: int = 0
    losses: list[BatchLoss] = field(default_factory=list)
    output: SameMemory = field(default_factory=SameMemory)
    has_loss: bool = False


class Evaluations:
    """Collects the losses of one evaluation at a time."""

    def __init__(self) -> None:
        self._losses: dict[str, _Losses] = defaultdict(_Losses)
        self._weights: dict[str, Weights] = {}
        """By what the script weights the batches of each part, as its latest evaluation showed."""
        self._is_cross_entropy = True

    @property
    def is_open(self) -> bool:
        return bool(self._losses)

    def add(self, loss: BatchLoss, part: DataPart, sums: Numbers, *, is_cross_entropy: bool) -> None:
        """Add the loss of one batch of a part of the data. sums: see LossMeans.add."""
        self._losses[part.name].add(loss, part.site, sums)
        self._is_cross_entropy = self._is_cross_entropy and is_cross_entropy

    def discard(self) -> None:
        """End the evaluation without a result."""
        self._losses.clear()
        self._is_cross_entropy = True

    def finish(self, numbers: Numbers) -> Evaluation | None:
        """End the evaluation and return its means; None if there was none. Waits for the values.

        numbers: returns those of the script, which show how it weights the batches.
        """
        if not self._losses:
            return None
        for losses in self._losses.values():
            losses.means.read()
        name, reason = self._validation()
        validation = None if name is None else self._losses[name].means
        means = {part: losses.means.mean(numbers, self._weights.get(part)) for part, losses in self._losses.items()}
        shown = {part: losses.means.weights for part, losses in self._losses.items()}
        self._weights.update({part: weights for part, weights in shown.items() if weights is not None})
        result = Evaluation(
            losses={part: mean for part, (mean, _) in means.items()},
            validation=name,
            examples=0 if validation is None else validation.n_rows,
            is_cross_entropy=self._is_cross_entropy,
            reason=reason,
            per_target=validation.per_target if validation is not None and validation.is_sum else None,
            is_mean_known=name is None or means[name][1],
        )
        self.discard()
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
                "the script evaluated in several places, perhaps on different data, without names",
            )
        return others[0], ""

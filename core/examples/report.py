"""What is known about the examples of a run, as data: for the command, its JSON, and the app."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from pydantic import TypeAdapter

from tui_lab.core.examples.selection import Part, Sample

By = Literal["loss", "wrong", "duplicates", "classes"]


@dataclass(frozen=True)
class ShownExample:
    """An example, token by token.

    offset: its start in the corpus in tokens, None where there is no corpus. text: its tokens decoded. x, y: token ids
    [T], y -1 where the target is ignored. loss: mean nats per target. losses: [T], None where ignored; top: the
    likeliest ids [T, k], with their probabilities; n_wrong: targets that the likeliest token is not. Without a model,
    the last five are empty or None.
    """

    part: Part
    example: int
    offset: int | None
    text: str
    x: tuple[int, ...]
    y: tuple[int, ...]
    loss: float | None = None
    losses: tuple[float | None, ...] = ()
    top: tuple[tuple[int, ...], ...] = ()
    probabilities: tuple[tuple[float, ...], ...] = ()
    n_wrong: int | None = None

    @property
    def n_targets(self) -> int:
        """The targets that the loss counts."""
        return sum(target >= 0 for target in self.y)

    def hardest_targets(self, most: int) -> list[tuple[int, float]]:
        """Return the positions of the largest losses with these losses, the largest first."""
        losses = [(t, loss) for t, loss in enumerate(self.losses) if loss is not None]
        return sorted(losses, key=lambda each: -each[1])[:most]


@dataclass(frozen=True)
class WrongCount:
    """How often an example was wrong at the checkpoints that were measured.

    n_checkpoints: at which at least one of its targets was wrong. n_wrong, n_predictions: targets, at all checkpoints.
    n_always: targets that were wrong at every checkpoint. n_forgotten: how often the example was right at a checkpoint
    and wrong at the next one (a forgetting event, Toneva et al. 2019).
    """

    n_checkpoints: int
    n_wrong: int
    n_predictions: int
    n_always: int
    n_forgotten: int


@dataclass(frozen=True)
class Place:
    """Where a copy of an example is. similarity: Jaccard index of the n-grams; 1 and `exact` for an equal row."""

    part: Part
    offset: int | None
    example: int | None
    similarity: float
    exact: bool
    text: str
    x: tuple[int, ...]
    y: tuple[int, ...]


@dataclass(frozen=True)
class CopyCount:
    """The copies of an example. n_exact: of all exact ones. n_near: near-duplicates that were found, without them.

    places: some of them, the most similar first.
    """

    n_exact: int
    n_near: int
    places: tuple[Place, ...]


@dataclass(frozen=True)
class Listed:
    """An example in the list of a report, with what brought it there."""

    example: ShownExample
    wrong: WrongCount | None = None
    copies: CopyCount | None = None


@dataclass(frozen=True)
class Share:
    """The targets of one class. loss: their mean, in nats. Shares are fractions of all targets and of the whole loss.

    wrong: the fraction of them that the likeliest token is not.
    """

    name: str
    n_targets: int
    loss: float | None
    share_of_targets: float
    share_of_loss: float
    wrong: float


@dataclass(frozen=True)
class Partition:
    """A division of all targets into classes that do not overlap, so that each pair of shares sums to 1."""

    name: str
    classes: tuple[Share, ...]


@dataclass(frozen=True)
class ExamplesReport:
    """The answer to one question about the examples of a run.

    step: of the weights, None where no model was used. steps: of all checkpoints that were measured. loss: mean over
    all measured targets, wrong: the fraction of them that was wrong. n_wrong_examples: examples with a wrong target.
    n_exact, n_near: examples with an equal copy in the same part, and with a near copy only. leaked, n_leaked,
    n_leaked_near: the same of validation examples with a copy in the training part. notes: sentences on what was
    measured and what counts.
    """

    run: str
    by: By
    part: Part
    step: int | None = None
    steps: tuple[int, ...] = ()
    sample: Sample | None = None
    loss: float | None = None
    wrong: float | None = None
    n_wrong_examples: int | None = None
    listed: tuple[Listed, ...] = ()
    partitions: tuple[Partition, ...] = ()
    n_exact: int = 0
    n_near: int = 0
    leaked: tuple[Listed, ...] = ()
    leak_sample: Sample | None = None
    n_leaked: int = 0
    n_leaked_near: int = 0
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return asdict(self)


_REPORT = TypeAdapter(ExamplesReport)


def from_json(values: Any) -> ExamplesReport:
    """Undo `Report.to_json`. Raises ValueError."""
    return _REPORT.validate_python(values)

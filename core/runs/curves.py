"""The curves of a run for a plot, from its events."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from tui_lab.core import events as ev

Points = tuple[tuple[float, ...], tuple[float, ...]]
"""Steps, and the value at each."""


@dataclass(frozen=True)
class Curves:
    """train: the loss of each step; running: its weighted mean; best: step and value of the best validation loss."""

    train: Points
    running: Points
    validation: Points
    lr: Points
    best: tuple[int, float] | None
    changes: tuple[ev.Changed, ...]
    chance: float | None
    """The uniform loss ln V, in nats."""


def curves(events: Iterable[ev.Event]) -> Curves:
    """Return the curves of a run with these events."""
    steps = list[ev.StepDone]()
    evaluations = list[ev.Evaluated]()
    changes = list[ev.Changed]()
    n_vocab = 0
    for event in events:
        match event:
            case ev.StepDone():
                steps.append(event)
            case ev.Evaluated():
                evaluations.append(event)
            case ev.Changed():
                changes.append(event)
            case ev.Started():
                n_vocab = event.n_vocab
    numbers = tuple(float(step.step) for step in steps)
    best = next((evaluation for evaluation in reversed(evaluations) if evaluation.best), None)
    return Curves(
        train=(numbers, tuple(step.loss for step in steps)),
        running=(numbers, tuple(step.loss_ema for step in steps)),
        validation=(
            tuple(float(evaluation.step) for evaluation in evaluations),
            tuple(evaluation.val_loss for evaluation in evaluations),
        ),
        lr=(numbers, tuple(step.lr for step in steps)),
        best=None if best is None else (best.step, best.val_loss),
        changes=tuple(changes),
        chance=math.log(n_vocab) if n_vocab > 1 else None,
    )

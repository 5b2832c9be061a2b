"""The curves of a run, from its digest: what a picture of any size shows, however long the record."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from tui_lab.core import events as ev

Points = tuple[tuple[float, ...], tuple[float, ...]]
"""Steps, and a value for each."""


@dataclass(frozen=True)
class Curves:
    """train: the loss of each update; running: its weighted mean; best: the evaluation of the best validation loss."""

    train: Points
    running: Points
    validation: Points
    lr: Points
    best: tuple[int, float] | None
    changes: tuple[ev.Changed, ...]
    chance: float | None
    """ln V: the loss of a uniform guess, in nats."""


def curves(events: Iterable[ev.Event]) -> Curves:
    """The curves that `events` tell."""
    updates, looks, changes, n_vocab = list[ev.StepDone](), list[ev.Evaluated](), list[ev.Changed](), 0
    for event in events:
        match event:
            case ev.StepDone():
                updates.append(event)
            case ev.Evaluated():
                looks.append(event)
            case ev.Changed():
                changes.append(event)
            case ev.Started():
                n_vocab = event.n_vocab
    steps = tuple(float(update.step) for update in updates)
    best = next((look for look in reversed(looks) if look.best), None)
    return Curves(
        train=(steps, tuple(update.loss for update in updates)),
        running=(steps, tuple(update.loss_ema for update in updates)),
        validation=(tuple(float(look.step) for look in looks), tuple(look.val_loss for look in looks)),
        lr=(steps, tuple(update.lr for update in updates)),
        best=None if best is None else (best.step, best.val_loss),
        changes=tuple(changes),
        chance=math.log(n_vocab) if n_vocab > 1 else None,
    )

"""The watchers: they see events alone, and speak once."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.core.tiny import trainer
from tui_lab.core import events as ev
from tui_lab.core.doctor.loss_floor import floor
from tui_lab.core.doctor.monitors import PLATEAU_EVERY, PLATEAU_STEPS, WARM_UP, Watcher

V = 1000


def start(watcher: Watcher) -> Watcher:
    watcher.see(
        ev.Started(step=0, steps=1, parameters=1, n_vocab=V, train_examples=1, val_examples=1, device="cpu", threads=1,
                   resumed=False)
    )  # fmt: skip
    return watcher


def update(step: int, loss: float, ratio: float | None = None) -> ev.StepDone:
    return ev.StepDone(step=step, loss=loss, loss_ema=loss, lr=0.01, grad_norm=1.0, epoch=0, tokens=step, seconds=0.1,
                       tokens_per_s=1.0, update_ratio=ratio)  # fmt: skip


def evaluation(step: int, loss: float, since_best: int) -> ev.Evaluated:
    return ev.Evaluated(
        step=step,
        val_loss=loss,
        exact_match=None,
        perplexity=1.0,
        examples=1,
        best=since_best == 0,
        since_best=since_best,
    )


def told(losses: Callable[[int], float], steps: int, ratio: float | None = None) -> list[str]:
    watcher = start(Watcher())
    return [f.code for step in range(1, steps + 1) for f in watcher.see(update(step, losses(step), ratio))]


@pytest.mark.parametrize(
    ("losses", "codes"),
    [
        (lambda step: 5.0 * math.exp(-step / 200), []),
        (lambda step: math.log(V), ["nothing_learned"]),
        (lambda step: floor(V), ["double_softmax"]),
        (lambda step: 3.0 + (0.1 * (step - 200) if step > 200 else 0.0), ["diverging"]),
        (lambda step: 2.0, []),
    ],
    ids=["learns", "chance", "floor", "climbs", "flat elsewhere"],
)
def test_a_curve_is_named_once(losses: Callable[[int], float], codes: list[str]) -> None:
    assert told(losses, 2 * PLATEAU_STEPS) == codes


def test_updates_that_are_too_large_are_said_after_the_warm_up() -> None:
    assert told(lambda step: 5.0 / step, WARM_UP, ratio=0.5) == []
    assert told(lambda step: 5.0 / step, WARM_UP + 5, ratio=0.5) == ["lr_too_high"]
    assert told(lambda step: 5.0 / step, WARM_UP + 5, ratio=1e-3) == []


def test_validation_that_worsens_while_training_improves_is_overfitting() -> None:
    watcher, codes = start(Watcher()), []
    for step in range(1, 400):
        codes += [f.code for f in watcher.see(update(step, 3.0 - step / 200))]
        if step % 50 == 0:
            codes += [
                f.code for f in watcher.see(evaluation(step, 2.0 + abs(step - 150) / 500, max(0, step // 50 - 3)))
            ]
    assert codes == ["overfitting"]


def test_what_was_said_may_be_said_again_after_a_change() -> None:
    watcher, found = start(Watcher()), []
    for step in range(1, 3 * PLATEAU_STEPS):
        found += watcher.see(update(step, math.log(V)))
        if step == PLATEAU_STEPS + PLATEAU_EVERY:
            watcher.see(ev.Changed(step=step, key="optim.lr", old=1.0, new=2.0))
    assert len(found) == 2


def test_a_healthy_training_is_left_in_peace() -> None:
    watcher = Watcher()
    events = trainer("train.steps=400", "train.eval_every=50").events()
    assert [finding.code for event in events for finding in watcher.see(event)] == []


def measured(**values: float) -> list[str]:
    watcher, codes = start(Watcher()), []
    for step in range(1, WARM_UP + 40):
        grown = {name: value * (step > WARM_UP + 5) for name, value in values.items()}
        event = replace(update(step, 5.0 / step), **grown)  # type: ignore[arg-type]
        codes += [finding.code for finding in watcher.see(event)]
    return codes


def test_units_that_die_and_data_that_is_late_are_said() -> None:
    assert measured(dead_units=0.9) == ["dying_relus"]
    assert measured(dead_units=0.2) == []
    assert measured(data_seconds=0.05) == ["data_starvation"]
    assert measured(data_seconds=0.01) == []

"""Monitors see only events, and report each finding once."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from tests.core.tiny import tiny, trainer
from tui_lab.core import events as ev
from tui_lab.core.doctor.findings import Finding
from tui_lab.core.doctor.loss_floor import floor
from tui_lab.core.doctor.monitors import PLATEAU_EVERY, PLATEAU_STEPS, WARM_UP, Monitors

V = 1000


def started() -> Monitors:
    monitors = Monitors()
    monitors.update(
        ev.Started(
            step=0,
            steps=1,
            parameters=1,
            n_vocab=V,
            train_examples=1,
            val_examples=1,
            device="cpu",
            threads=1,
            resumed=False,
        )
    )
    return monitors


def step_done(step: int, loss: float, **measurements: Any) -> ev.StepDone:
    return ev.StepDone(
        step=step,
        loss=loss,
        loss_ema=loss,
        lr=0.01,
        grad_norm=1.0,
        epoch=0,
        tokens=step,
        seconds=0.1,
        tokens_per_s=1.0,
        **measurements,
    )


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


def codes_of_curve(losses: Callable[[int], float], steps: int, ratio: float | None = None) -> list[str]:
    monitors = started()
    return [
        f.code
        for step in range(1, steps + 1)
        for f in monitors.update(step_done(step, losses(step), update_ratio=ratio))
    ]


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
def test_curve_is_reported_once(losses: Callable[[int], float], codes: list[str]) -> None:
    assert codes_of_curve(losses, 2 * PLATEAU_STEPS) == codes


def test_large_update_ratio_is_reported_after_the_warm_up() -> None:
    assert codes_of_curve(lambda step: 5.0 / step, WARM_UP, ratio=0.5) == []
    assert codes_of_curve(lambda step: 5.0 / step, WARM_UP + 5, ratio=0.5) == ["lr_too_high"]
    assert codes_of_curve(lambda step: 5.0 / step, WARM_UP + 5, ratio=1e-3) == []


def test_rising_validation_loss_with_falling_train_loss_is_overfitting() -> None:
    monitors = started()
    codes: list[str] = []
    for step in range(1, 400):
        codes += [f.code for f in monitors.update(step_done(step, 3.0 - step / 200))]
        if step % 50 == 0:
            codes += [
                f.code for f in monitors.update(evaluation(step, 2.0 + abs(step - 150) / 500, max(0, step // 50 - 3)))
            ]
    assert codes == ["overfitting"]


def test_finding_is_reported_again_after_a_change() -> None:
    monitors = started()
    findings: list[Finding] = []
    for step in range(1, 3 * PLATEAU_STEPS):
        findings += monitors.update(step_done(step, math.log(V)))
        if step == PLATEAU_STEPS + PLATEAU_EVERY:
            monitors.update(ev.Changed(step=step, key="optim.lr", old=1.0, new=2.0))
    assert len(findings) == 2


def test_healthy_training_has_no_findings() -> None:
    monitors = Monitors()
    events = trainer("train.steps=200", "train.eval_every=25").events()
    assert [finding.code for event in events for finding in monitors.update(event)] == []


def codes_of_measurements(**values: float) -> list[str]:
    """The findings of a healthy curve whose measurements jump from 0 to `values`."""
    monitors = started()
    codes: list[str] = []
    for step in range(1, WARM_UP + 40):
        measurements = {name: value * (step > WARM_UP + 5) for name, value in values.items()}
        codes += [finding.code for finding in monitors.update(step_done(step, 5.0 / step, **measurements))]
    return codes


def test_dying_units_and_slow_data_are_reported() -> None:
    assert codes_of_measurements(dead_units=0.9) == ["dying_relus"]
    assert codes_of_measurements(dead_units=0.2) == []
    assert codes_of_measurements(data_seconds=0.05) == ["data_starvation"]
    assert codes_of_measurements(data_seconds=0.01) == []


def overfit_changed(step: int, n: int) -> ev.Changed:
    return ev.Changed(step=step, key="data.overfit", old=1 - n, new=n)


def test_losses_of_other_data_are_no_reference() -> None:
    """The running loss is low for some steps after one example was overfit, and rises to that of all examples."""
    monitors = started()
    codes: list[str] = []
    for step in range(1, 300):
        if step in (100, 200):
            monitors.update(overfit_changed(step, int(step == 100)))
        loss = 2.0 if step < 100 else 0.01 if step < 200 else 2.0 * (1 - 0.9 ** (step - 199))
        codes += [finding.code for finding in monitors.update(step_done(step, loss))]
    assert codes == []


def test_finding_is_active_until_the_loss_has_recovered_or_the_data_is_changed() -> None:
    monitors = started()

    def active_after(losses: dict[int, float]) -> set[str]:
        for step, loss in losses.items():
            monitors.update(step_done(step, loss))
        return set(monitors.active)

    assert active_after(dict.fromkeys(range(1, 100), 2.0)) == set()
    assert active_after(dict.fromkeys(range(100, 110), 4.0)) == {"diverging"}
    assert active_after({110: 2.9}) == {"diverging"}
    assert active_after({111: 2.2}) == set()
    monitors.update(ev.Changed(step=111, key="optim.lr", old=1.0, new=2.0))
    assert active_after(dict.fromkeys(range(112, 170), 2.0) | {170: 4.0}) == {"diverging"}
    monitors.update(overfit_changed(170, 1))
    assert monitors.active == set()


@pytest.mark.parametrize(("clip", "is_advised"), [(0.0, True), (1.0, False)])
def test_fix_is_a_change_that_is_not_in_force(clip: float, is_advised: bool) -> None:
    monitors = Monitors(tiny("optim.lr=0.5", f"optim.grad_clip={clip}"))
    findings = [f for step in range(1, 100) for f in monitors.update(step_done(step, 1.0 + 2.0 * (step > 60)))]
    assert [finding.proposal for finding in findings] == [{"optim.lr": 0.25}]
    assert ("grad_clip" in findings[0].fix) == is_advised
    monitors.update(ev.Changed(step=100, key="optim.lr", old=0.5, new=4.0))
    findings = [f for step in range(101, 200) for f in monitors.update(step_done(step, 1.0 + 9.0 * (step > 160)))]
    assert [finding.proposal for finding in findings] == [{"optim.lr": 0.5}], "the rate before it was raised"


def validated(monitors: Monitors, losses: Iterable[float], first: int = 1) -> list[str]:
    """Evaluate every 50 steps while the train loss falls; return the codes of the findings."""
    codes: list[str] = []
    for number, loss in enumerate(losses, first):
        for step in range(50 * (number - 1) + 1, 50 * number + 1):
            codes += [f.code for f in monitors.update(step_done(step, 3.0 - step / 1000))]
        codes += [f.code for f in monitors.update(evaluation(50 * number, loss, since_best=9))]
    return codes


def test_noise_of_the_validation_loss_is_no_overfitting() -> None:
    assert validated(started(), [2.5, 2.0, 2.2, 2.02, 2.15, 2.01, 2.2, 2.05, 2.1, 2.02]) == []


def test_overfitting_is_wrong_if_the_loss_falls_to_a_new_best_without_a_change() -> None:
    monitors = started()
    assert validated(monitors, [2.0, 2.1, 2.2, 2.3]) == ["overfitting"] and not monitors.refuted
    assert validated(monitors, [1.9], 5) == [] and monitors.refuted == {"overfitting"}
    assert validated(monitors, [2.0 + 0.1 * i for i in range(8)], 6) == ["overfitting"]
    monitors.update(ev.Changed(step=650, key="model.dropout", old=0.0, new=0.5))
    assert validated(monitors, [1.8], 14) == []
    assert not monitors.refuted and monitors.active == set(), "it was right, and the change has helped"

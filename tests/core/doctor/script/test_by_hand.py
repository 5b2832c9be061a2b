"""A script that changes its weights by hand is examined as one with an optimizer, on copies, too."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.core.doctor.script.test_target import Small, V, outside, pair
from tui_lab.core.doctor.findings import NotJudged
from tui_lab.core.doctor.loop.reading import OTHER_RULE
from tui_lab.core.doctor.loop.recorder import LoopRecorder
from tui_lab.core.doctor.program.target import Target
from tui_lab.core.doctor.runner import examine
from tui_lab.core.doctor.script.capture import Capture
from tui_lab.core.doctor.script.target import target_from_script, whole_model

Loss = Callable[[nn.Module, int], Tensor]
UPDATES = 12
LR = 0.5


class Momentum:
    """Updates that a copy cannot repeat."""

    def __init__(self) -> None:
        self.velocity: dict[nn.Parameter, Tensor] = {}

    def __call__(self, p: nn.Parameter, gradient: Tensor) -> None:
        velocity = self.velocity.setdefault(p, torch.zeros_like(p))
        velocity.mul_(0.9).add_(gradient)
        p.data -= 0.1 * velocity


def descend(lr: float) -> Callable[[nn.Parameter, Tensor], None]:
    def update(p: nn.Parameter, gradient: Tensor) -> None:
        p.data -= lr * gradient

    return update


def examined(
    loss: Loss, update: Callable[[nn.Parameter, Tensor], None], *, part: str = "", frozen: tuple[str, ...] = ()
) -> Target:
    """Train a model by hand, and return the target.

    part: the name of the only module that is trained. frozen: names of modules that need no gradients.
    """
    torch.manual_seed(0)
    model = Small()
    for name in frozen:
        model.get_submodule(name).requires_grad_(False)
    capture = Capture()
    with LoopRecorder(capture=capture) as recorder:
        for step in range(UPDATES):
            model.zero_grad()
            loss(model, step).backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            for p in model.get_submodule(part).parameters():
                if p.grad is not None:
                    update(p, p.grad)
    capture.close()
    whole = whole_model(capture, recorder.model, recorder.optimizers)
    return target_from_script(capture, recorder.record(), whole, recorder.optimizers, trained=False)


def probabilities(model: nn.Module, step: int) -> Tensor:
    x, y = pair(step)
    return F.cross_entropy(model(x).softmax(-1).view(-1, V), y.reshape(-1))


def own_targets(model: nn.Module, step: int) -> Tensor:
    x, _ = pair(step)
    return F.cross_entropy(model(x).view(-1, V), x.reshape(-1))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("loss", "lr", "part", "expected"),
    [
        (outside, LR, "", []),
        (outside, 100 * LR, "", ["lr_too_high"]),
        (outside, LR / 1e4, "", ["lr_too_low"]),
        (outside, LR, "h", ["missing_from_optimizer"]),
        (probabilities, LR, "", ["double_softmax"]),
        (own_targets, LR, "", ["copied_targets"]),
    ],
    ids=["healthy", "high rate", "low rate", "part", "softmax", "targets"],
)
def test_mistakes_of_a_script_with_updates_by_hand(loss: Loss, lr: float, part: str, expected: list[str]) -> None:
    report = examine(examined(loss, descend(lr), part=part))
    assert [finding.code for finding in report.findings] == expected and report.crashed == ()


def other_rows(model: nn.Module, step: int) -> Tensor:
    """The targets are those of the batch in another order."""
    x, y = pair(step)
    return F.cross_entropy(model(x).view(-1, V), y.flip(0).reshape(-1))


@pytest.mark.parametrize(
    ("loss", "frozen", "expected"),
    [(outside, (), []), (outside, ("e",), ["frozen_parameters"]), (other_rows, (), ["swapped_rows"])],
    ids=["healthy", "frozen", "other rows"],
)
@pytest.mark.slow
def test_mistakes_beside_the_update(loss: Loss, frozen: tuple[str, ...], expected: list[str]) -> None:
    report = examine(examined(loss, descend(LR), frozen=frozen))
    assert [finding.code for finding in report.findings] == expected and report.crashed == ()


@pytest.mark.slow
def test_all_checks_of_a_loop_are_made() -> None:
    report = examine(examined(outside, descend(LR)))
    assert {"optimizer parameters", "optimizer step", "gradient reset", "loop gradients", "rates", "overfit"} <= set(
        report.passed
    )
    assert "optimizer rebuilt" in [unchecked.check for unchecked in report.not_applicable]


def test_update_of_a_copy_is_that_of_the_script() -> None:
    target = examined(outside, descend(LR))
    torch.manual_seed(0)
    model = Small()
    loss = outside(model, 0)
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    trial = target.fresh()
    trial.apply_update(target.batch(0))
    for p, copied in zip(model.parameters(), trial.model.parameters(), strict=True):
        assert p.grad is not None
        assert torch.allclose(copied, p - LR * p.grad, atol=1e-6)


def rate_of(p: Tensor) -> float:
    """Return a lower rate for vectors than for matrices."""
    return LR if p.dim() > 1 else 0.3 * LR


def rate_per_size(p: nn.Parameter, gradient: Tensor) -> None:
    p.data -= rate_of(p) * gradient


def normalized(p: nn.Parameter, gradient: Tensor) -> None:
    """Change every parameter by the same length, so that its rate differs from update to update."""
    p.data -= 0.01 * gradient / gradient.norm()


@pytest.mark.parametrize("update", [Momentum(), normalized], ids=["momentum", "normalized"])
def test_other_updates_by_hand_are_not_tried_on_copies(update: Callable[[nn.Parameter, Tensor], None]) -> None:
    target = examined(outside, update)
    assert target.record is not None and len(target.record.updates) == UPDATES
    with pytest.raises(NotJudged, match=OTHER_RULE):
        target.require_optimizers()


def test_rates_of_layers_by_hand_are_those_of_a_copy() -> None:
    target = examined(outside, rate_per_size)
    assert target.record is not None and {update.lrs for update in target.record.updates} == {(LR, 0.3 * LR)}
    trial = target.fresh()
    rates = {id(p): group["lr"] for group in trial.optimizers[0].param_groups for p in group["params"]}
    assert rates == {id(p): rate_of(p) for p in trial.model.parameters()}


@pytest.mark.slow
def test_script_with_rates_of_layers_by_hand_is_healthy() -> None:
    report = examine(examined(outside, rate_per_size))
    assert report.findings == () and {"optimizer step", "rates", "overfit"} <= set(report.passed)

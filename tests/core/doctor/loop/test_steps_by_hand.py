"""Updates that a loop makes without an optimizer are recorded as its steps, and judged as those of an optimizer."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.core.doctor.loop.judged import codes, judged, loss_of
from tests.core.watch.loops import STEPS, V, batch, start
from tui_lab.core.doctor.loop.reading import why_not_repeatable
from tui_lab.core.doctor.loop.record import LoopRecord
from tui_lab.core.doctor.loop.recorder import LoopRecorder
from tui_lab.core.watch.optimizer.updates_by_hand import MAX_IDLE

LR = 0.1
Loop = Callable[[], object]


def backward(loss: Tensor) -> None:
    loss.backward()  # type: ignore[no-untyped-call]


def gradients(model: nn.Module) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the parameters that have a gradient, and the gradient."""
    for p in model.parameters():
        if p.grad is not None:
            yield p, p.grad


def descend(model: nn.Module, lr: float = LR) -> None:
    for p, gradient in gradients(model):
        p.data.add_(gradient, alpha=-lr)


def recorded(loop: Loop) -> LoopRecord:
    with LoopRecorder() as recorder:
        loop()
    return recorder.record(has_ended=True)


def in_one_call() -> None:
    """As an example of torch does: clipped, all parameters in a loop, cleared before the next backward pass."""
    model = start()
    for step in range(STEPS):
        model.zero_grad()
        backward(loss_of(model, step))
        nn.utils.clip_grad_norm_(model.parameters(), 0.25)
        descend(model)


def without_gradients() -> None:
    model = start()
    for step in range(STEPS):
        backward(loss_of(model, step))
        with torch.no_grad():
            for p, gradient in gradients(model):
                p -= LR * gradient
                p.grad = None


def module_by_module() -> None:
    """The gradients of each module are cleared while others are still to be changed."""
    model = start()
    for step in range(STEPS):
        backward(loss_of(model, step))
        for module in model.children():
            descend(module)
            module.zero_grad()


def micro_batches() -> None:
    model = start()
    for step in range(STEPS):
        for part in range(2):
            backward(loss_of(model, 2 * step + part) / 2)
        descend(model)
        model.zero_grad()


def with_evaluations() -> None:
    model = start()
    for step in range(STEPS):
        model.train()
        backward(loss_of(model, step))
        descend(model)
        model.eval()
        with torch.no_grad():
            model(batch(100 + step)[0])
        model.zero_grad()


HEALTHY = (in_one_call, without_gradients, module_by_module, micro_batches, with_evaluations)


@pytest.mark.parametrize("loop", HEALTHY)
def test_each_update_by_hand_is_a_step(loop: Loop) -> None:
    record = recorded(loop)
    assert record.moves_by_hand and record.is_plain_by_hand and len(record.updates) == STEPS
    assert {update.lrs for update in record.updates} == {(LR,)}
    for update in record.updates:
        assert update.moved == 1.0 and update.received > 0 and update.rows
        assert [event.operation for event in update.events if event.operation in ("backward", "step")][-1] == "step"
    assert record.unmoved == record.left_out == record.never_cleared == ()


@pytest.mark.parametrize("loop", HEALTHY)
def test_healthy_updates_by_hand_are_no_findings(loop: Loop) -> None:
    assert judged(loop) == []


def test_evaluations_belong_to_the_update_that_follows() -> None:
    updates = recorded(with_evaluations).updates
    assert [len(update.events_of("evaluation")) for update in updates] == [0] + [1] * (STEPS - 1)


def test_gradient_is_that_after_the_clipping() -> None:
    for update in recorded(in_one_call).updates:
        assert update.received == pytest.approx(0.25, rel=1e-3) and update.given > 0.25
        assert update.cosine == pytest.approx(1.0)


def test_changes_of_the_gradients_before_the_update_are_part_of_it() -> None:
    def loop() -> None:
        model = start()
        for step in range(STEPS):
            model.zero_grad()
            backward(loss_of(model, step))
            for _, gradient in gradients(model):
                gradient.clamp_(-0.01, 0.01)
            descend(model)

    assert recorded(loop).is_plain_by_hand and judged(loop) == []


def momentum(*, clears: bool = True, part: str = "") -> Loop:
    def loop() -> None:
        model = start()
        trained = model.get_submodule(part)
        velocity = [torch.zeros_like(p) for p in trained.parameters()]
        for step in range(STEPS):
            backward(loss_of(model, step))
            for (p, gradient), v in zip(gradients(trained), velocity, strict=True):
                v.mul_(0.9).add_(gradient)
                p.data.add_(v, alpha=-LR)
            if clears:
                model.zero_grad()

    return loop


def test_momentum_by_hand_is_followed_without_its_rate() -> None:
    record = recorded(momentum())
    assert len(record.updates) == STEPS and record.moves_by_hand and not record.is_plain_by_hand
    assert judged(momentum()) == []


def test_parameters_that_momentum_by_hand_leaves_out_are_found() -> None:
    record = recorded(momentum(part="head"))
    others = {name for name, _ in start().named_parameters() if not name.startswith("head")}
    assert not record.is_plain_by_hand and set(record.left_out) == others
    assert [(f.code, f.kind) for f in judged(momentum(part="head"))] == [("missing_from_optimizer", "finding")]


def trained(loss: Callable[[nn.Module, int], Tensor], update: Callable[[nn.Module], object]) -> Loop:
    def loop() -> None:
        model = start()
        for step in range(12):
            model.zero_grad()
            backward(loss(model, step))
            update(model)

    return loop


def never_clears() -> None:
    model = start()
    for step in range(STEPS):
        backward(loss_of(model, step))
        descend(model)


def clears_before_each_micro_batch() -> None:
    model = start()
    for step in range(STEPS):
        for part in range(2):
            model.zero_grad()
            backward(loss_of(model, 2 * step + part))
        descend(model)


def negated(model: nn.Module, step: int) -> Tensor:
    return -loss_of(model, step)


def clips_after_the_update(model: nn.Module) -> None:
    descend(model)
    nn.utils.clip_grad_norm_(model.parameters(), 0.1)


def log_likelihood(model: nn.Module, step: int) -> Tensor:
    """The mean of the logarithms of the probabilities, without a loss function of torch."""
    x, y = batch(step)
    logits: Tensor = model(x)[0]
    return logits.log_softmax(-1).gather(2, y[..., None]).mean()


def becomes_nan(model: nn.Module, step: int) -> Tensor:
    """Break all losses from the seventh on."""
    return loss_of(model, step) * (torch.nan if step == 6 else 1.0)


@pytest.mark.parametrize("rate", [LR, -LR])
def test_updates_with_nan_keep_the_rate_of_those_before(rate: float) -> None:
    record = recorded(trained(becomes_nan, lambda model: descend(model, rate)))
    assert not math.isfinite(record.updates[-1].losses[0])
    assert {update.lrs for update in record.updates} == {(rate,)}
    assert (record.is_plain_by_hand, record.climbs_by_hand) == (rate > 0, rate < 0)


def test_updates_by_another_rule_keep_none_with_nan() -> None:
    velocity: dict[Tensor, Tensor] = {}

    def update(model: nn.Module) -> None:
        for p, gradient in gradients(model):
            velocity[p] = 0.9 * velocity.get(p, torch.zeros_like(p)) + gradient
            p.data.add_(velocity[p], alpha=-LR)

    record = recorded(trained(becomes_nan, update))
    assert record.updates[-1].lrs == () and not record.is_plain_by_hand


@pytest.mark.parametrize(
    ("loop", "expected"),
    [
        (never_clears, ["no_zero_grad"]),
        (momentum(clears=False), ["no_zero_grad"]),
        (clears_before_each_micro_batch, ["cleared_between_backwards"]),
        (trained(loss_of, lambda model: descend(model.head)), ["missing_from_optimizer"]),  # type: ignore[arg-type]
        (trained(negated, descend), ["gradient_ascent"]),
        (trained(loss_of, lambda model: descend(model, -LR)), ["gradient_ascent"]),
        (trained(becomes_nan, lambda model: descend(model, -LR)), ["gradient_ascent"]),
        (trained(negated, lambda model: descend(model, -LR)), []),
        (trained(log_likelihood, lambda model: descend(model, -LR)), []),
        (trained(loss_of, clips_after_the_update), ["clip_without_effect"]),
        (trained(lambda model, step: loss_of(model, 0), descend), []),
    ],
)
def test_mistakes_in_updates_by_hand(loop: Loop, expected: list[str]) -> None:
    assert codes(judged(loop)) == expected


def test_layer_that_takes_the_place_of_one_that_is_updated_is_found() -> None:
    def loop() -> None:
        model = start()
        held = list(model.parameters())
        for step in range(12):
            if step == 3:
                model.head = nn.Linear(8, V)
            model.zero_grad()
            backward(loss_of(model, step))
            for p in held:
                if p.grad is not None:
                    p.data -= LR * p.grad

    record = recorded(loop)
    assert set(record.left_out) == {"head.weight", "head.bias"} and codes(judged(loop)) == ["missing_from_optimizer"]


def test_weights_with_a_tiny_gradient_are_not_left_out() -> None:
    def tiny(model: nn.Module, step: int) -> Tensor:
        """Scale the gradient of the head's bias, as rounding leaves it for the bias of keys in attention."""
        x, y = batch(step)
        if step == 0:
            bias = model.get_parameter("head.bias")
            bias.register_hook(lambda gradient: 1e-9 * gradient)  # type: ignore[no-untyped-call]
        return F.cross_entropy(model(x)[0].flatten(0, 1), y.flatten())

    record = recorded(trained(tiny, descend))
    assert "head.bias" in record.unmoved and record.left_out == record.unmoved_with_gradient == ()


def test_constant_batch_is_mentioned() -> None:
    findings = judged(trained(lambda model, step: loss_of(model, 0), descend))
    assert [finding.code for finding in findings] == ["constant_batch"]


@pytest.mark.parametrize(("factor", "expected"), [(1.0, []), (1e3, ["lr_too_high"])])
def test_size_of_the_changes_is_judged(factor: float, expected: list[str]) -> None:
    findings = judged(trained(loss_of, lambda model: descend(model, factor * LR)))
    assert [finding.code for finding in findings] == expected


def test_rate_that_vanishes_is_found() -> None:
    def loop() -> None:
        model = start()
        for step in range(5 * MAX_IDLE):
            model.zero_grad()
            backward(loss_of(model, step))
            descend(model, LR if step < STEPS else 0.0)

    record = recorded(loop)
    assert [update.lrs for update in record.updates[:STEPS]] == [(LR,)] * STEPS
    assert {update.lrs for update in record.updates[STEPS:]} == {(0.0,)} and len(record.updates) > 2 * MAX_IDLE
    assert codes(judged(loop)) == ["lr_schedule"]


def test_updates_besides_an_optimizer_are_not_followed() -> None:
    def loop() -> None:
        model = start()
        torch.optim.SGD(model.parameters(), lr=LR)
        for step in range(STEPS):
            model.zero_grad()
            backward(loss_of(model, step))
            descend(model)

    record = recorded(loop)
    assert record.moves_by_hand and not record.updates and judged(loop) == []


def test_steps_of_an_optimizer_are_no_updates_by_hand() -> None:
    def loop() -> None:
        model = start()
        backward(loss_of(model, 0))  # Before there is an optimizer.
        optimizer = torch.optim.SGD(model.parameters(), lr=LR)
        for step in range(STEPS):
            optimizer.zero_grad()
            backward(loss_of(model, step))
            optimizer.step()

    record = recorded(loop)
    assert not record.moves_by_hand and len(record.updates) == STEPS


def test_input_that_is_trained_through_a_model_is_no_mistake_of_the_model() -> None:
    def loop() -> None:
        torch.manual_seed(0)
        model = nn.Linear(4, 3)
        x = torch.zeros(2, 4, requires_grad=True)
        for _ in range(12):
            backward(F.cross_entropy(model(x), torch.tensor([0, 2])))
            assert x.grad is not None
            x.data -= LR * x.grad
            x.grad = None

    record = recorded(loop)
    assert len(record.updates) == 12 and why_not_repeatable(record) and judged(loop) == []


@pytest.mark.parametrize("in_place", [True, False])
def test_weights_without_a_module_are_followed(in_place: bool) -> None:
    def loop() -> None:
        weight, bias = torch.zeros(3, requires_grad=True), torch.zeros((), requires_grad=True)
        for step in range(STEPS):
            x = torch.randn(5, 3, generator=torch.Generator().manual_seed(step))
            backward(F.mse_loss(x @ weight + bias, x.sum(1)))
            assert weight.grad is not None and bias.grad is not None
            if in_place:
                weight.data -= LR * weight.grad
                bias.data -= LR * bias.grad
                weight.grad = bias.grad = None
            else:
                weight = (weight - LR * weight.grad).detach().requires_grad_()
                bias = (bias - LR * bias.grad).detach().requires_grad_()

    record = recorded(loop)
    # Nothing sees new tensors that no loss depends on.
    assert len(record.updates) == STEPS - (not in_place) and record.is_plain_by_hand
    for update in record.updates:
        assert update.moved == 1.0 and update.means == update.losses and update.received > 0
    assert record.unmoved == record.left_out == record.never_cleared == ()
    detached: list[Any] = [e.is_detached for update in record.updates for e in update.events_of("backward")]
    assert not any(detached)

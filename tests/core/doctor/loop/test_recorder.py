"""The recorder of a loop: it changes nothing, and it records what each update did."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.core.watch.loops import LOOPS, STEPS, TinyModel, Trained, V, batch, start
from tui_lab.core.doctor.loop.call_capture import CallCapture
from tui_lab.core.doctor.loop.record import LoopRecord, UpdateRecord
from tui_lab.core.doctor.loop.recorder import LoopRecorder
from tui_lab.core.watch.steering.steering import StopRequested


def recorded(loop: Callable[[], object]) -> LoopRecord:
    with LoopRecorder() as recorder:
        loop()
    return recorder.record()


def operations(update: UpdateRecord) -> list[str]:
    return [event.operation for event in update.events]


@pytest.mark.parametrize("name", LOOPS)
def test_recorded_loop_computes_the_same_losses(name: str) -> None:
    alone = LOOPS[name]()
    with LoopRecorder() as recorder:
        watched = LOOPS[name]()
    record = recorder.record()
    assert watched.losses == alone.losses
    assert isinstance(recorder.model, nn.Module)
    assert len(record.updates) == (2 * STEPS if name == "two_losses" else STEPS)
    assert record.notes == () and record.never_cleared == () and record.unmoved == ()


def test_hooks_are_removed_at_the_end() -> None:
    places: list[tuple[Any, str]] = [
        (nn.Module, "__call__"),
        (torch.optim.Optimizer, "zero_grad"),
        (torch.autograd, "backward"),
    ]
    before = [vars(place)[name] for place, name in places]
    recorded(LOOPS["plain"])
    assert [vars(place)[name] for place, name in places] == before


def test_order_of_an_update_has_the_lines_of_the_loop() -> None:
    update = recorded(LOOPS["clipping_with_schedule"]).updates[1]
    assert operations(update) == ["schedule", "zero_grad", "forward", "backward", "clip", "step"]
    assert all("loops.py:" in event.line for event in update.events)
    [forward] = update.events_of("forward")
    [clip] = update.events_of("clip")
    assert forward.training and clip.value == 0.1 and clip.norm == pytest.approx(update.given, rel=1e-4)
    assert update.received == pytest.approx(0.1, rel=1e-4) and update.cosine == pytest.approx(1.0, abs=1e-5)
    assert update.lrs == (0.05,) and update.moved == 1.0 and update.relative_change > 0


def test_scaled_gradients_are_recorded_in_unscaled_units() -> None:
    plain = recorded(LOOPS["plain"]).updates[0]
    scaled = recorded(LOOPS["scaled_amp"]).updates[0]
    assert operations(scaled) == ["forward", "scale", "backward", "unscale", "clip", "step"]
    assert scaled.loss_scale == 2.0**10
    assert scaled.given == pytest.approx(plain.given, rel=0.05) and scaled.losses == pytest.approx(
        plain.losses, rel=0.01
    )


def test_each_micro_batch_has_its_loss_and_its_counted_targets() -> None:
    update = recorded(LOOPS["accumulating_divided"]).updates[1]
    assert len(update.losses) == 3 and update.n_targets == (24, 24, 24) and len(update.rows) == 12
    assert update.leftover == 0 and update.restarts == 0


def test_step_with_a_closure_is_recorded_after_what_the_closure_did() -> None:
    update = recorded(LOOPS["lbfgs"]).updates[0]
    assert update.searches and operations(update)[-2:] == ["backward", "step"]


def test_two_optimizers_after_one_backward_are_one_update() -> None:
    update = recorded(LOOPS["two_optimizers"]).updates[0]
    assert update.optimizers == (0, 1) and update.lrs == (0.1, 0.01) and update.moved == 1.0


def test_gradient_of_the_logits_is_that_of_the_mean_cross_entropy() -> None:
    record = recorded(LOOPS["plain"])
    assert [measurement.update for measurement in record.measurements] == [0, 1]
    x, y = batch(0)
    measurement = record.measurements[0]
    expected = (measurement.logits.softmax(-1) - F.one_hot(y, V)) / y.numel()
    assert measurement.x is not None and torch.equal(measurement.x, x)
    torch.testing.assert_close(measurement.gradient, expected)


def test_evaluation_is_recorded_with_its_mode_and_rows() -> None:
    def loop() -> None:
        model = start()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for step in range(2):
            optimizer.zero_grad()
            _, loss = model(*batch(step))
            loss.backward()
            optimizer.step()
            with torch.no_grad():
                for number in range(3):
                    model(*batch(100 + number))

    record = recorded(loop)
    [evaluation] = record.updates[1].events_of("evaluation")
    assert evaluation.count == 3 and evaluation.training and evaluation.value is not None
    assert len(record.evaluation_rows) == 12
    assert not record.evaluation_rows & set(record.updates[1].rows)


def test_gradients_that_are_never_cleared_are_named() -> None:
    def loop() -> None:
        model = start()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for step in range(4):
            model.head.zero_grad()
            _, loss = model(*batch(step))
            loss.backward()
            optimizer.step()

    record = recorded(loop)
    assert "embedding.weight" in record.never_cleared and "head.weight" not in record.never_cleared
    assert record.updates[0].leftover == 0 < record.updates[1].leftover


def test_gradients_that_are_cleared_too_often_or_too_early() -> None:
    def loop(*, between: bool) -> None:
        model = start()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for step in range(3):
            for part in range(4):
                if not between:
                    optimizer.zero_grad()
                _, loss = model(*batch(10 * step + part))
                loss.backward()
            if between:
                optimizer.zero_grad()
            optimizer.step()

    assert [update.restarts for update in recorded(lambda: loop(between=False)).updates] == [3, 3, 3]
    for update in recorded(lambda: loop(between=True)).updates:
        assert update.given > 0 == update.received and update.moved == 0
    assert len(recorded(lambda: loop(between=True)).unmoved) == 7


def test_loop_without_a_step_has_only_remaining_events() -> None:
    def loop() -> None:
        model = start()
        for step in range(3):
            _, loss = model(*batch(step))
            loss.backward()

    record = recorded(loop)
    assert record.updates == () and [event.operation for event in record.remaining] == ["forward", "backward"] * 3


def test_parameters_without_a_module_are_measured() -> None:
    def loop() -> None:
        torch.manual_seed(0)
        weight = torch.randn(3, 2, requires_grad=True)
        optimizer = torch.optim.SGD([weight], lr=0.1)
        for _ in range(2):
            weight.grad = None
            (torch.ones(4, 3) @ weight).square().mean().backward()  # type: ignore[no-untyped-call]
            optimizer.step()

    updates = recorded(loop).updates
    assert [operations(update) for update in updates] == [["backward", "step"]] * 2
    assert all(update.given == update.received > 0 and update.moved == 1.0 for update in updates)


def test_callback_may_stop_the_loop() -> None:
    numbers: list[int] = []

    def stop(update: UpdateRecord) -> None:
        numbers.append(update.number)
        if update.number == 1:
            raise StopRequested

    with LoopRecorder(on_update=stop) as recorder, pytest.raises(StopRequested):
        LOOPS["plain"]()
    assert numbers == [0, 1] and len(recorder.record().updates) == 2


def test_capture_gets_the_calls_and_losses_of_the_loop() -> None:
    class Capture(CallCapture):
        def __init__(self) -> None:
            self.calls: list[Any] = []

        def training_call(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            assert isinstance(model, TinyModel)
            self.calls.append(("call", len(args)))

        def returned(self, output: Any) -> None:
            self.calls.append(("output", output[0].shape[-1]))

        def criterion(self, name: str, output: Tensor, targets: Tensor, options: dict[str, Any]) -> None:
            assert "input" in options
            self.calls.append((name, targets.dim()))

        def backward(self, loss: Tensor, scale: float) -> None:
            self.calls.append(("loss", loss.dim()))

    capture = Capture()
    with LoopRecorder(capture=capture):
        LOOPS["plain"]()
    assert capture.calls == [("call", 2), ("cross_entropy", 1), ("output", V), ("loss", 0)] * STEPS


class Unit(nn.Module):
    """Gives a weight rows of length 1."""

    def forward(self, weight: Tensor) -> Tensor:
        return F.normalize(weight, dim=-1)


def test_parametrization_that_is_called_for_its_weight_is_no_model() -> None:
    class Capture(CallCapture):
        def __init__(self) -> None:
            self.called: list[type] = []

        def training_call(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            self.called.append(type(model))

    capture = Capture()
    with LoopRecorder(capture=capture) as recorder:
        linear = nn.Linear(4, 4)
        nn.utils.parametrize.register_parametrization(linear, "weight", Unit())
        model = nn.Sequential(linear)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(2):
            penalty = linear.weight.abs().sum()
            (model(torch.ones(2, 4)).sum() + penalty).backward()
            optimizer.step()
            optimizer.zero_grad()
    assert capture.called == [nn.Sequential] * 2
    assert recorder.model is model


def test_gradient_that_is_not_finite_is_named() -> None:
    def loop() -> Trained:
        trained = Trained(model := start())
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        _, loss = model(*batch(0))
        (loss * math.nan).backward()
        optimizer.step()
        return trained

    assert "head.bias" in recorded(loop).updates[0].not_finite

"""The gradient of a loop's loss with respect to the logits."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from tui_lab.core.doctor.loop.logits import LogitsGradients


class SingleBackward(torch.autograd.Function):
    """A mean cross-entropy that allows one backward pass, as torch's linear_cross_entropy does."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor) -> Tensor:
        ctx.gradient = (logits.softmax(-1) - F.one_hot(targets, logits.shape[-1])) / len(targets)
        return F.cross_entropy(logits, targets)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor, None]:
        if ctx.gradient is None:
            raise RuntimeError("backward called twice")
        gradient: Tensor = ctx.gradient * gradients[0]
        ctx.gradient = None
        return gradient, None


def test_gradient_is_measured_in_the_only_backward_pass() -> None:
    weight = torch.randn(4, 6, requires_grad=True)
    x = torch.randn(5, 4)
    targets = torch.tensor([0, 1, 2, 3, 5])
    measured = LogitsGradients()
    logits = x @ weight
    measured.called(x, logits)
    loss: Tensor = SingleBackward.apply(logits, targets) * 8  # type: ignore[no-untyped-call]
    measured.measure(loss, float(loss.detach()) / 8, 8.0, "loss.backward()", 0, [(None, targets)])
    loss.backward()  # type: ignore[no-untyped-call]
    [measurement] = measured.measurements
    expected = (logits.detach().softmax(-1) - F.one_hot(targets, 6)) / 5
    torch.testing.assert_close(measurement.gradient, expected)
    torch.testing.assert_close(weight.grad, x.T @ expected * 8)


def test_later_backward_passes_are_not_measured_twice() -> None:
    logits = torch.randn(3, 2, requires_grad=True)
    measured = LogitsGradients()
    measured.called(None, logits)
    loss = logits.square().sum()
    measured.measure(loss, float(loss.detach()), 1.0, "", 0, [])
    loss.backward(retain_graph=True)  # type: ignore[no-untyped-call]
    loss.backward()  # type: ignore[no-untyped-call]
    assert len(measured.measurements) == 1


def test_flattened_logits_are_measured_by_positions() -> None:
    x = torch.zeros(2, 3, dtype=torch.int64)
    logits = torch.randn(6, 5, requires_grad=True)
    targets = torch.arange(6) % 5
    measured = LogitsGradients()
    measured.called(x, logits)
    loss = F.cross_entropy(logits, targets)
    measured.measure(loss, float(loss.detach()), 1.0, "", 0, [(None, targets)])
    loss.backward()  # type: ignore[no-untyped-call]
    [measurement] = measured.measurements
    torch.testing.assert_close(measurement.logits, logits.detach().reshape(2, 3, 5))
    torch.testing.assert_close(measurement.gradient, logits.grad.reshape(2, 3, 5) if logits.grad is not None else None)

"""A recorded loss can be computed again, for other weights, with the gradients of the script's own."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from tui_lab.core.doctor.script.tape import Inputs, Tape, TapeError
from tui_lab.core.doctor.script.tape_recorder import MAX_CALLS, TapeRecorder

V = 11
Loss = Callable[["Model", Tensor], Tensor]


class Model(nn.Module):
    """Returns logits [B, T, V], and leaves a loss of its own in an attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.e = nn.Embedding(V, 8)
        self.h = nn.Linear(8, V)
        self.aux = torch.zeros(())

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.e(x))
        self.aux = h.pow(2).mean()
        logits: Tensor = self.h(h)
        return logits


torch.manual_seed(0)
x = torch.randint(0, V, (4, 6))
y = torch.randint(0, V, (4, 6))
mask = torch.tensor([[1.0] * 4 + [0.0] * 2] * 4)
weights = torch.rand(V)
smoothed = nn.CrossEntropyLoss(label_smoothing=0.1)


def cross_entropy(logits: Tensor) -> Tensor:
    return F.cross_entropy(logits.view(-1, V), y.view(-1))


def masked_mean(model: Model, logits: Tensor) -> Tensor:
    losses = F.cross_entropy(logits.transpose(1, 2), y, reduction="none")
    return (losses * mask).sum() / mask.sum()


def changed_in_place(model: Model, logits: Tensor) -> Tensor:
    targets = y.clone()
    targets[:, :2] = -100
    loss = F.cross_entropy(logits.reshape(-1, V), targets.reshape(-1))
    loss += 0.1 * logits.logsumexp(-1).pow(2).mean()
    loss /= 4
    return loss


def with_metrics(model: Model, logits: Tensor) -> Tensor:
    accuracy = (logits.argmax(-1) == y).float().mean().item()
    assert 0 <= accuracy <= 1
    return cross_entropy(logits)


def in_autocast(model: Model, logits: Tensor) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        return F.mse_loss(logits @ logits.transpose(1, 2), torch.ones(4, 6, 6))


def without_gradients_of_the_target(model: Model, logits: Tensor) -> Tensor:
    with torch.no_grad():
        wanted = logits.roll(1, 0).softmax(-1)
    return F.kl_div(logits.log_softmax(-1), wanted, reduction="batchmean")


def with_noise(model: Model, logits: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    targets = torch.randint(0, V, (4, 6), generator=generator)
    noise = torch.empty(4, 6, V).normal_(generator=generator)
    return F.cross_entropy((logits + noise).transpose(1, 2), targets) + torch.tensor(0.5)


LOSSES: dict[str, Loss] = {
    "view(-1)": lambda model, logits: cross_entropy(logits),
    "sizes": lambda model, logits: F.cross_entropy(logits.view(logits.size(0) * logits.shape[1], -1), y.flatten()),
    "transpose": lambda model, logits: F.cross_entropy(logits.transpose(1, 2), y),
    "shift": lambda model, logits: F.cross_entropy(logits[:, :-1].reshape(-1, V), x[:, 1:].reshape(-1)),
    "module": lambda model, logits: nn.CrossEntropyLoss()(logits.flatten(0, 1), y.flatten()),
    "label smoothing": lambda model, logits: smoothed(logits.flatten(0, 1), y.flatten()),
    "weights": lambda model, logits: F.cross_entropy(logits.flatten(0, 1), y.flatten(), weight=weights),
    "nll_loss": lambda model, logits: F.nll_loss(F.log_softmax(logits, -1).view(-1, V), y.view(-1)),
    "gather": lambda model, logits: -logits.log_softmax(-1).gather(-1, y[..., None]).mean(),
    "selected": lambda model, logits: F.cross_entropy(logits[mask.bool()], y[mask.bool()]),
    "divided": lambda model, logits: cross_entropy(logits) / 4,
    "z-loss": lambda model, logits: cross_entropy(logits) + 1e-4 * logits.logsumexp(-1).pow(2).mean(),
    "auxiliary loss of a module": lambda model, logits: cross_entropy(logits) + 0.01 * model.aux,
    "weights' own loss": lambda model, logits: cross_entropy(logits) + sum(p.pow(2).sum() for p in model.parameters()),
    "random numbers": with_noise,
    "masked mean": masked_mean,
    "changed in place": changed_in_place,
    "with metrics": with_metrics,
    "autocast": in_autocast,
    "KL": without_gradients_of_the_target,
}


def recorded(model: nn.Module, loss: Callable[[Any], Tensor]) -> Tape:
    """Call the model and the loss as a script does, and return the tape."""
    recorder = TapeRecorder()
    recorder.called(model, (x,), {})
    output = model(x)
    recorder.returned(output)
    recorder.begin()
    try:
        return recorder.finish(loss(output))
    finally:
        assert recorder.close()


@pytest.mark.parametrize("name", LOSSES)
def test_replayed_loss_and_its_gradients_are_those_of_the_script(name: str) -> None:
    torch.manual_seed(1)
    model, other = Model(), Model()
    loss = LOSSES[name]
    tape = recorded(model, lambda logits: loss(model, logits))
    inputs: Inputs = {0: ((x,), {})}
    replayed = tape.replay([other], inputs)
    wanted = loss(other, other(x))
    of_output = tape.replay([other], inputs, output=other(x))
    assert float(replayed.detach()) == pytest.approx(float(wanted.detach()), rel=1e-6)
    assert float(of_output.detach()) == pytest.approx(float(wanted.detach()), rel=1e-6)
    parameters = list(other.parameters())
    for a, b in zip(torch.autograd.grad(replayed, parameters), torch.autograd.grad(wanted, parameters), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)


def test_only_functions_that_the_loss_depends_on_are_kept() -> None:
    model = Model()
    tape = recorded(model, lambda logits: with_metrics(model, logits))
    assert [entry.name for entry in tape.functions] == ["view", "view", "cross_entropy"]
    assert tape.calls == [0] and not tape.is_output


def test_loss_in_the_output_is_recognized_with_arithmetic_on_it() -> None:
    class WithLoss(Model):
        def forward(self, x: Tensor) -> Any:
            logits = super().forward(x)
            return logits, cross_entropy(logits)

    tape = recorded(WithLoss(), lambda output: output[1] / 8 + 0.5)
    assert tape.is_output


def test_loop_over_positions_is_replayed_with_all_its_calls() -> None:
    cell, head = nn.GRUCell(V, 8), nn.Linear(8, V)

    def loss(call: Callable[..., Any]) -> Tensor:
        hidden, total = torch.zeros(4, 8), torch.zeros(())
        for t in range(6):
            hidden = call(cell, F.one_hot(x[:, t], V).float(), hidden)
            total = total + F.cross_entropy(call(head, hidden), y[:, t])
        return total

    recorder = TapeRecorder()
    inputs: dict[int, Any] = {}

    def call(module: nn.Module, *args: Any) -> Any:
        inputs[recorder.called(module, args, {})] = (tuple(arg.detach().clone() for arg in args), {})
        output = module(*args)
        recorder.returned(output)
        if len(inputs) == 1:
            recorder.begin()
        return output

    tape = recorder.finish(loss(call))
    recorder.close()
    other_cell, other_head = nn.GRUCell(V, 8), nn.Linear(8, V)
    others = {id(cell): other_cell, id(head): other_head}
    wanted = loss(lambda module, *args: others[id(module)](*args))
    replayed = tape.replay([other_cell, other_head], inputs)
    assert len(tape.calls) == 12 and float(replayed.detach()) == pytest.approx(float(wanted.detach()), rel=1e-6)


class Doubled(torch.autograd.Function):
    """A function that torch's modes do not see."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        return value * 2

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return gradients[0] * 2


def twice(value: Tensor) -> Tensor:
    result: Tensor = Doubled.apply(value)  # type: ignore[no-untyped-call]
    return result


@pytest.mark.parametrize(
    "loss",
    [
        lambda logits: twice(cross_entropy(logits)),
        lambda logits: twice(logits).mean(),
        lambda logits: torch.zeros((), requires_grad=True) * 2,
    ],
    ids=["unseen function last", "unseen function inside", "another loss"],
)
def test_loss_that_cannot_be_followed_is_refused(loss: Callable[[Any], Tensor]) -> None:
    with pytest.raises(TapeError):
        recorded(Model(), loss)


def test_model_called_too_often_is_given_up_without_holding_memory() -> None:
    recorder, model = TapeRecorder(), Model()
    for _ in range(MAX_CALLS + 1):
        recorder.called(model, (x,), {})
        recorder.returned(model(x))
    assert recorder.problem and not recorder.outputs and not recorder.arguments


class OwnMode(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


def test_mode_of_the_script_is_left_alone() -> None:
    recorder = TapeRecorder()
    with OwnMode():
        recorder.begin()
        assert recorder.problem and torch._C._len_torch_function_stack() == 1
    assert recorder.close() and torch._C._len_torch_function_stack() == 0


def test_mode_that_begins_after_ours_and_ends_before_it_does_not_matter() -> None:
    model = Model()

    def loss(logits: Tensor) -> Tensor:
        with OwnMode():
            return cross_entropy(logits)

    recorded(model, loss)
    assert torch._C._len_torch_function_stack() == 0

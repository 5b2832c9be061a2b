"""The ways in which a model may be called on a batch, by its signature and the form of the batch."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tui_lab.core.doctor.program.batch import Batch
from tui_lab.core.doctor.program.target import Forward, seed_everything
from tui_lab.core.doctor.program.tokens import are_ids, logits_in, loss_in

TARGET_KEYS = ("labels", "label", "targets", "target", "y")
ID_KEYS = ("input_ids", "ids", "tokens", "idx", "x", "input", "inputs", "src")
TARGET_PARAMETERS = ("targets", "target", "y")
"""Optional parameters of a model's forward with which it returns its loss, or all logits instead of the last."""
Targets = Callable[[Batch], Any]


@dataclass(frozen=True)
class Call:
    """One way to call a model on a batch. description: as a user writes it. targets: batch → y; None: unknown."""

    description: str
    run: Forward
    targets: Targets | None = None


def possible_calls(model: nn.Module, batch: Batch, has_loss: bool) -> Iterator[Call]:
    """Yield the ways in which a model may be called on such a batch, the usual ones first."""
    if isinstance(batch, Mapping):
        yield from _mapping_calls(model, batch)
    elif isinstance(batch, list | tuple) and len(batch) > 1:
        yield from _tuple_calls(model, batch, has_loss)
    elif isinstance(batch, Tensor) and are_ids(batch) and batch.shape[1] > 1 and not has_loss:
        yield Call("model(x), which returns its loss", lambda model, batch: _with_loss(model(batch)))
        yield Call("model(x[:, :-1]), with targets x[:, 1:]", lambda m, b: m(b[:, :-1]), lambda b: b[:, 1:])
    yield Call("model(batch)", lambda model, batch: model(batch))


def _tuple_calls(model: nn.Module, batch: Any, has_loss: bool) -> Iterator[Call]:
    if len(batch) == 2:
        yield from _pair_calls(model, batch, has_loss)
        return
    yield Call("model(*inputs)", lambda model, batch: model(*batch[:-1]), _last)
    yield Call("model(x)", lambda model, batch: _called(model, batch[0]), lambda batch: batch[1])
    yield Call("model(x, *others)", lambda model, batch: model(batch[0], *batch[2:]), lambda batch: batch[1])
    yield Call("model(x)", lambda model, batch: _called(model, batch[0]), _last)
    yield Call("model(*batch)", lambda model, batch: model(*batch))


def _pair_calls(model: nn.Module, batch: Any, has_loss: bool) -> Iterator[Call]:
    """Yield the ways for a batch (x, y)."""
    plain = Call("model(x)", lambda model, batch: _called(model, batch[0]), _last)
    if name := _target_parameter(model):
        with_targets = Call(
            f"model(x, {name}=y)",
            lambda model, batch: _with_logits(_called(model, batch[0], **{name: batch[1]})),
            _last,
        )
        yield from [plain, with_targets] if has_loss else [with_targets, plain]
    else:
        yield plain
    yield Call(
        "model(x, y), which returns its loss",
        lambda model, batch: _with_loss(_called(model, batch[0], batch[1])),
        _last,
    )
    if isinstance(batch[1], Tensor) and are_ids(batch[1]) and batch[1].shape[1] > 1:
        yield Call(
            "model(x, y[:, :-1]), with targets y[:, 1:]",
            lambda model, batch: _called(model, batch[0], batch[1][:, :-1]),
            lambda batch: batch[1][:, 1:],
        )
    yield Call("model(x, y)", lambda model, batch: _called(model, batch[0], batch[1]), _last)


def _last(batch: Any) -> Any:
    return batch[-1]


def _mapping_calls(model: nn.Module, batch: Mapping[str, Any]) -> Iterator[Call]:
    targets = usual_targets(batch)
    parameters = _parameters(model)
    takes_all = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())

    def accepted(batch: Mapping[str, Any], without: tuple[str, ...] = ()) -> dict[str, Any]:
        return {key: batch[key] for key in batch if (takes_all or key in parameters) and key not in without}

    if accepted(batch):
        yield Call("model(**batch)", lambda model, batch: model(**accepted(batch)), targets)
        yield Call("model(**inputs)", lambda model, batch: model(**accepted(batch, TARGET_KEYS)), targets)
    first = next((key for key in (*ID_KEYS, *batch) if key in batch and key not in TARGET_KEYS), None)
    if first is not None:
        yield Call(f"model(batch[{first!r}])", lambda model, batch: model(batch[first]), targets)


def usual_targets(batch: Batch) -> Targets | None:
    """Return where a batch has its targets by usual rules: a key, or the last item."""
    if isinstance(batch, Mapping):
        key = next((key for key in TARGET_KEYS if key in batch), None)
        return None if key is None else lambda batch: batch[key]
    if isinstance(batch, list | tuple) and len(batch) > 1:
        return lambda batch: batch[-1]
    return None


def _target_parameter(model: nn.Module) -> str:
    """Return the name of an optional parameter for targets, as nanoGPT's `forward(idx, targets=None)` has; or ""."""
    parameters = _parameters(model)
    return next((n for n in TARGET_PARAMETERS if n in parameters and parameters[n].default is None), "")


def _parameters(model: nn.Module) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(model.forward).parameters
    except (TypeError, ValueError):
        return {}


def _called(model: nn.Module, x: Any, *more: Any, **named: Any) -> Any:
    """Call the model on x, which may hold several inputs."""
    if isinstance(x, Mapping):
        return model(*more, **x, **named)
    return model(*x, *more, **named) if isinstance(x, list | tuple) else model(x, *more, **named)


def _with_loss(output: Any) -> Any:
    """Return the output. Raises ValueError if there is no loss in it."""
    if loss_in(output) is None:
        raise ValueError("the model does not return its loss")
    return output


def _with_logits(output: Any) -> Any:
    """Return the output. Raises ValueError if it is a loss alone, since the model returns logits without targets."""
    if logits_in(output).dim() == 0:
        raise ValueError("the model returns a loss alone")
    return output


def output_of(model: nn.Module, forward: Forward, batch: Batch) -> Any:
    """Return the model's output for a batch, in evaluation mode, without gradients, and always with the same seed."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        seed_everything(0)
        with torch.no_grad():
            return forward(model, batch)
    finally:
        for module, mode in modes.items():
            module.training = mode


def positional_parameters(function: Callable[..., object]) -> list[str]:
    """Return the names of the required positional parameters, and "*args" if it takes any number of them.

    Empty for a function without a signature, such as some of C's.
    """
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return []
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    names = [p.name for p in parameters if p.kind in kinds and p.default is inspect.Parameter.empty]
    return names + ["*args" for p in parameters if p.kind is inspect.Parameter.VAR_POSITIONAL]

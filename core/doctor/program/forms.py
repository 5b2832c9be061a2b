"""Recognizes the form of a program from its model and one batch: how the model is called, and where its loss is.

Every way that the batch allows is tried, and the first whose output fits the targets is taken. Batches whose rows lie
along the second axis, as nn.LSTM takes them by default, are turned, so that checks find rows along the first.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tui_lab.core.doctor.program.batch import (
    Batch,
    first_rows,
    mapped,
    n_rows,
    nth_tensor,
    numbered,
    on_device,
    tensors_of,
)
from tui_lab.core.doctor.program.target import PROBE_ROWS, Forward, LossFunction, seed_everything
from tui_lab.core.doctor.program.tokens import PAIRS, TokenView, logits_in, loss_in

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


@dataclass(frozen=True)
class Form:
    """How a program calls its model. All functions take batches with rows along the first axis.

    forward: (model, batch) → what the model returns; flat logits get their shape.
    targets: batch → what a loss compares the output with, in the user's own layout; None: unknown.
    inner_loss: (model, batch) → the loss that the model computes itself, or None.
    user_logits: (logits [B, T, V], or without tokens the output, batch) → the output as the user's loss expects it.
    tokens: None if the model does not map ids [B, T] to logits [B, T, V].
    layout: how the user's batches are turned; None: they are not.
    fixed_shape: whether the model accepts only whole batches.
    description: the form as text, for the report.
    error: what the model raised in every way that was tried.
    """

    forward: Forward
    targets: Targets | None = None
    inner_loss: LossFunction | None = None
    user_logits: Callable[[Any, Batch], Any] = lambda output, batch: logits_in(output)
    tokens: TokenView | None = None
    layout: "Layout | None" = None
    fixed_shape: bool = False
    description: str = ""
    error: Exception | None = None


@dataclass(frozen=True)
class Layout:
    """How tensors of the user's batches are turned so that rows lie along the first axis.

    ids: the number of the tensor that tells the number of rows. swapped: numbers of tensors [T, B, …], if
    `time_first`. flat: numbers of tensors [T · B] or [B · T].
    """

    ids: int
    time_first: bool
    swapped: frozenset[int] = frozenset()
    flat: frozenset[int] = frozenset()

    def turned(self, batch: Batch) -> Batch:
        """Return a batch of the user with rows along the first axis."""
        rows = nth_tensor(batch, self.ids).shape[1 if self.time_first else 0]

        def turn(number: int, tensor: Tensor) -> Tensor:
            if number in self.flat:
                return tensor.view(-1, rows).t().contiguous() if self.time_first else tensor.view(rows, -1)
            return tensor.transpose(0, 1).contiguous() if number in self.swapped else tensor

        return numbered(batch, turn)

    def restored(self, batch: Batch) -> Batch:
        """Return the batch as the user's code expects it."""

        def turn(number: int, tensor: Tensor) -> Tensor:
            if number in self.flat:
                return (tensor.t() if self.time_first else tensor).reshape(-1)
            return tensor.transpose(0, 1).contiguous() if number in self.swapped else tensor

        return numbered(batch, turn)


@dataclass(frozen=True)
class Ids:
    """Which tensor of a user's batch holds the ids of which the model returns logits.

    cut: whether the last position is only a target. flat: whether logits are [positions, V].
    axis: along which the positions lie, if the shapes tell.
    """

    number: int
    cut: bool = False
    flat: bool = False
    axis: int | None = None


def recognize(model: nn.Module, batch: Batch, *, forward: Forward | None = None, has_loss: bool = False) -> Form:
    """Return the form of a program. The model runs several times in evaluation mode, without gradients.

    forward: the user's own call of the model. has_loss: whether the user computes the loss from the model's output.
    """
    calls = [Call("your forward", forward, _targets_of(batch))] if forward else list(_calls(model, batch, has_loss))
    batch = on_device(batch, next((p.device for p in model.parameters()), torch.device("cpu")))
    few = first_rows(batch, PROBE_ROWS)
    trials = [_Trial(model, calls, few)]
    if not trials[0].fits and n_rows(batch) > PROBE_ROWS:
        trials.append(_Trial(model, calls, batch))
    trial = next((t for t in trials if t.fits), None) or next((t for t in trials if t.call), None)
    if trial is None or trial.call is None:
        pairs = PAIRS if _is_pair_of_ids(batch) else None
        first = calls[0]
        return Form(first.run, first.targets, tokens=pairs, description=first.description, error=trials[0].error)
    return _form(model, trial.call, batch, trial.batch, trial.output)


class _Trial:
    """Calls the model on a batch in every way until one fits the targets.

    call, output: those of the first way that fits, or else that does not raise. error: what the first way raised.
    """

    def __init__(self, model: nn.Module, calls: list[Call], batch: Batch) -> None:
        self.batch = batch
        self.call: Call | None = None
        self.output: Any = None
        self.fits = False
        self.error: Exception | None = None
        for call in calls:
            try:
                output = run(model, call.run, batch)
                logits = logits_in(output)
                y = call.targets(batch) if call.targets else None
            except Exception as error:  # The next way may be the right one.
                self.error = self.error or error
                continue
            self.fits = loss_in(output) is not None or (isinstance(y, Tensor) and fits(logits, y))
            if self.fits or self.call is None:
                self.call = call
                self.output = output
            if self.fits:
                break


def run(model: nn.Module, forward: Forward, batch: Batch) -> Any:
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


def _calls(model: nn.Module, batch: Batch, has_loss: bool) -> Iterator[Call]:
    """Yield the ways in which a model may be called on such a batch, the usual ones first."""
    if isinstance(batch, Mapping):
        yield from _mapping_calls(model, batch)
    elif isinstance(batch, list | tuple) and len(batch) > 1:
        yield from _tuple_calls(model, batch, has_loss)
    elif isinstance(batch, Tensor) and _are_ids(batch) and batch.shape[1] > 1 and not has_loss:
        yield Call("model(x), which returns its loss", lambda model, batch: _only_loss(model(batch)))
        yield Call("model(x[:, :-1]), with targets x[:, 1:]", lambda m, b: m(b[:, :-1]), lambda b: b[:, 1:])
    yield Call("model(batch)", lambda model, batch: model(batch))


def _only_loss(output: Any) -> Any:
    if loss_in(output) is None:
        raise ValueError("the model does not return its loss")
    return output


def _with_logits(output: Any) -> Any:
    """Return the output. Raises ValueError if it is a loss alone, since the model returns logits without targets."""
    if logits_in(output).dim() == 0:
        raise ValueError("the model returns a loss alone")
    return output


def _tuple_calls(model: nn.Module, batch: Any, has_loss: bool) -> Iterator[Call]:
    def last(batch: Any) -> Any:
        return batch[-1]

    def second(batch: Any) -> Any:
        return batch[1]

    if len(batch) == 2:
        plain = Call("model(x)", lambda model, batch: _called(model, batch[0]), last)
        name = _target_parameter(model)
        with_targets = Call(
            f"model(x, {name}=y)", lambda model, batch: _with_logits(_called(model, batch[0], **{name: batch[1]})), last
        )
        calls = [plain, with_targets] if has_loss else [with_targets, plain]
        yield from calls if name else [plain]
        yield Call(
            "model(x, y), which returns its loss",
            lambda model, batch: _only_loss(_called(model, batch[0], batch[1])),
            last,
        )
        shifted = Call(
            "model(x, y[:, :-1]), with targets y[:, 1:]",
            lambda model, batch: _called(model, batch[0], batch[1][:, :-1]),
            lambda batch: batch[1][:, 1:],
        )
        if isinstance(batch[1], Tensor) and _are_ids(batch[1]) and batch[1].shape[1] > 1:
            yield shifted
        yield Call("model(x, y)", lambda model, batch: _called(model, batch[0], batch[1]), last)
        return
    yield Call("model(*inputs)", lambda model, batch: model(*batch[:-1]), last)
    yield Call("model(x)", lambda model, batch: _called(model, batch[0]), second)
    yield Call("model(x, *others)", lambda model, batch: model(batch[0], *batch[2:]), second)
    yield Call("model(x)", lambda model, batch: _called(model, batch[0]), last)
    yield Call("model(*batch)", lambda model, batch: model(*batch))


def _called(model: nn.Module, x: Any, *more: Any, **named: Any) -> Any:
    """Call the model on x, which may hold several inputs."""
    if isinstance(x, Mapping):
        return model(*more, **x, **named)
    return model(*x, *more, **named) if isinstance(x, list | tuple) else model(x, *more, **named)


def _mapping_calls(model: nn.Module, batch: Mapping[str, Any]) -> Iterator[Call]:
    targets = _targets_of(batch)
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


def _parameters(model: nn.Module) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(model.forward).parameters
    except (TypeError, ValueError):
        return {}


def _target_parameter(model: nn.Module) -> str:
    """Return the name of an optional parameter for targets, as nanoGPT's `forward(idx, targets=None)` has; or ""."""
    parameters = _parameters(model)
    return next((n for n in TARGET_PARAMETERS if n in parameters and parameters[n].default is None), "")


def _targets_of(batch: Batch) -> Targets | None:
    """Return where a batch has its targets by usual rules: a key, or the last item."""
    if isinstance(batch, Mapping):
        key = next((key for key in TARGET_KEYS if key in batch), None)
        return None if key is None else lambda batch: batch[key]
    if isinstance(batch, list | tuple) and len(batch) > 1:
        return lambda batch: batch[-1]
    return None


def _are_ids(tensor: Tensor) -> bool:
    return tensor.dim() == 2 and not tensor.is_floating_point() and tensor.dtype is not torch.bool


def _is_pair_of_ids(batch: Batch) -> bool:
    """Return whether a batch is (x, y) with ids of the same shape in both."""
    return (
        isinstance(batch, list | tuple)
        and len(batch) == 2
        and all(isinstance(item, Tensor) and _are_ids(item) for item in batch)
        and batch[0].shape == batch[1].shape
    )


def fits(output: Tensor, y: Tensor) -> bool:
    """Return whether a loss can compare the two: classes in the last or second axis, or values of the same shape."""
    if y.is_floating_point():
        return output.numel() == y.numel()
    classes = output.shape[-1] if output.dim() else 1
    return (
        output.shape[:-1] == y.shape
        or (output.dim() == y.dim() + 1 and output.shape[:1] + output.shape[2:] == y.shape)
        or (output.dim() == 2 and classes > 1 and output.shape[0] == y.numel())
    )


def _form(model: nn.Module, call: Call, batch: Batch, sample: Batch, output: Any) -> Form:
    """Return the form of a program whose call gave `output` for `sample`, some rows of `batch`."""
    logits = logits_in(output)
    ids = _ids(model, call, sample, logits)
    layout = _layout(model, call, batch, sample, logits, ids)
    if layout is not None:
        batch = layout.turned(batch)
    tokens = _token_view(model, call, batch, ids, layout)
    if tokens is not None and tokens is not PAIRS:
        tokens = replace(tokens, logits=_logits(layout, ids))
    forward = _forward(call, layout, ids)
    form = Form(
        forward=forward,
        targets=_restoring(call.targets, layout),
        inner_loss=_inner_loss(call, layout) if loss_in(output) is not None else None,
        user_logits=_user_logits(layout, ids),
        tokens=tokens or (PAIRS if _is_pair_of_ids(batch) else None),
        layout=layout,
        fixed_shape=not _accepts_few_rows(model, forward, batch),
        description=_words(call, batch, tokens, layout),
    )
    return form


def _forward(call: Call, layout: Layout | None, ids: Ids | None) -> Forward:
    """Return a function that calls the model on turned batches, and gives flat logits their shape [B, T, V]."""
    if layout is None and not (ids and ids.flat):
        return call.run
    time_first = layout is not None and layout.time_first

    def forward(model: nn.Module, batch: Batch) -> Any:
        output = call.run(model, layout.restored(batch) if layout else batch)
        if ids is None or not ids.flat:
            return output
        logits = logits_in(output)
        rows = nth_tensor(batch, ids.number).shape[0]
        return logits.view(-1, rows, logits.shape[-1]) if time_first else logits.view(rows, -1, logits.shape[-1])

    return forward


def _logits(layout: Layout | None, ids: Ids | None) -> Callable[[Any], Tensor]:
    """Return a function from the output to logits [B, T, V]."""
    if ids is None or layout is None or not layout.time_first:
        return logits_in
    return lambda output: logits_in(output).transpose(0, 1)


def _user_logits(layout: Layout | None, ids: Ids | None) -> Callable[[Any, Batch], Any]:
    flat = ids is not None and ids.flat

    def user_logits(output: Any, batch: Batch) -> Any:
        logits = logits_in(output)
        if ids is not None and layout is not None and layout.time_first:
            logits = logits.transpose(0, 1)
        return logits.reshape(-1, logits.shape[-1]) if flat else logits

    return user_logits


def _inner_loss(call: Call, layout: Layout | None) -> LossFunction:
    def loss(model: nn.Module, batch: Batch) -> Tensor:
        value = loss_in(call.run(model, layout.restored(batch) if layout else batch))
        if value is None:
            raise ValueError("the model did not return its loss")
        return value.reshape(())

    return loss


def _restoring(targets: Targets | None, layout: Layout | None) -> Targets | None:
    if targets is None or layout is None:
        return targets
    return lambda batch: targets(layout.restored(batch))


def _accepts_few_rows(model: nn.Module, forward: Forward, batch: Batch) -> bool:
    rows = min(PROBE_ROWS, n_rows(batch))
    try:
        run(model, forward, first_rows(batch, rows))
    except Exception:
        return False
    return True


def _ids(model: nn.Module, call: Call, batch: Batch, logits: Tensor) -> Ids | None:
    """Return which tensor of the user's batch holds the ids; None if the output is not logits over tokens."""
    if _makes_decoder_ids(model, batch):
        return None
    y = call.targets(batch) if call.targets else None
    candidates = [
        ids
        for number, tensor in enumerate(tensors_of(batch))
        if _are_ids(tensor) and (ids := _matched(number, tensor, logits)) is not None and (tensor is not y or ids.cut)
    ]
    if len(candidates) > 1:
        candidates = _by_name(batch, candidates) or _influential(model, call, batch, candidates) or candidates
    # In batches of an encoder-decoder, the decoder's ids come last.
    return candidates[-1] if candidates else None


def _matched(number: int, ids: Tensor, logits: Tensor) -> Ids | None:
    """Compare shapes: is there one row of logits for each id, or for each but those of the last position?"""
    rows, columns = ids.shape
    if logits.dim() == 3:
        shape = tuple(logits.shape[:2])
        if shape == (rows, columns):
            return Ids(number)
        if shape == (rows, columns - 1):
            return Ids(number, cut=True, axis=1)
        return Ids(number, cut=True, axis=0) if shape == (rows - 1, columns) else None
    if logits.dim() == 2 and logits.shape[0] == rows * columns:
        return Ids(number, flat=True)
    return None


def _by_name(batch: Batch, candidates: list[Ids]) -> list[Ids]:
    """Return the candidate whose key says that it holds the ids of the decoder, or of the only input."""
    if not isinstance(batch, Mapping):
        return []
    numbers = {id(tensor): number for number, tensor in enumerate(tensors_of(batch))}
    for key in ("decoder_input_ids", "tgt", "trg", *ID_KEYS):
        for ids in candidates:
            if key in batch and numbers.get(id(batch[key])) == ids.number:
                return [ids]
    return []


def _influential(model: nn.Module, call: Call, batch: Batch, candidates: list[Ids]) -> list[Ids]:
    """Return the candidates whose ids change the output."""
    before = logits_in(run(model, call.run, batch))
    changed = []
    for ids in candidates:
        others = numbered(batch, lambda number, t, n=ids.number: other_values(t) if number == n else t)  # type: ignore[misc]
        if not torch.equal(before, logits_in(run(model, call.run, others))):
            changed.append(ids)
    return changed


def other_values(tensor: Tensor) -> Tensor:
    """Return a tensor that differs everywhere, of ids that occur in it or of numbers of the same size."""
    if tensor.is_floating_point():
        return 0.5 - tensor
    present = torch.unique(tensor)
    if len(present) < 2:
        present = torch.arange(min(int(present[0]), 1), int(present[0]) + 1, device=tensor.device)
    other: Tensor = present[(torch.searchsorted(present, tensor.contiguous()) + 1) % len(present)]
    return other.to(tensor.dtype)


def _layout(
    model: nn.Module, call: Call, batch: Batch, sample: Batch, logits: Tensor, ids: Ids | None
) -> Layout | None:
    """Return how batches have to be turned; None if they are right as they are."""
    tensors = list(tensors_of(batch))
    number = ids.number if ids else 0
    y = call.targets(batch) if call.targets else None
    time_first = _is_time_first(model, call, batch, sample, logits, ids)
    shape = tensors[number].shape
    if len(shape) < 2:
        return None
    flat = {n for n, t in enumerate(tensors) if t is y and t.dim() == 1 and ids and t.numel() == shape[0] * shape[1]}
    if not time_first:
        return Layout(number, False, flat=frozenset(flat)) if flat else None
    swapped = {
        n
        for n, t in enumerate(tensors)
        if n == number or (t.dim() >= 2 and t.shape[1] == shape[1] and (t.shape[0] != shape[1] or t.shape == shape))
    }
    return Layout(number, True, frozenset(swapped), frozenset(flat))


def _is_time_first(model: nn.Module, call: Call, batch: Batch, sample: Batch, logits: Tensor, ids: Ids | None) -> bool:
    """Return whether rows lie along the second axis: by the targets if these tell it, else by the model."""
    if ids is not None and ids.axis is not None:
        return ids.axis == 0
    x = nth_tensor(batch, ids.number if ids else 0)
    y = call.targets(batch) if call.targets else None
    if x.dim() < 2 or min(x.shape[:2]) < 2:
        return False
    if isinstance(y, Tensor) and ids is not None and y.numel() == x.numel():
        y = y.view(x.shape)
        along_rows = _agreement(x[:, 1:], y[:, :-1])
        along_columns = _agreement(x[1:], y[:-1])
        if max(along_rows, along_columns) > AGREEMENT and min(along_rows, along_columns) < AGREEMENT:
            return along_columns > along_rows
    if isinstance(y, Tensor) and ids is None and y.dim() and y.shape[0] != x.shape[0] == logits.shape[0]:
        return False
    if isinstance(y, Tensor) and ids is None and y.dim() == 1:
        return y.shape[0] == x.shape[1] != x.shape[0]
    return _independent_columns(model, call, sample, ids)


AGREEMENT = 0.9
"""Fraction of targets that equal the next ids along an axis, above which rows lie along it."""


def _agreement(ids: Tensor, targets: Tensor) -> float:
    counted = targets >= 0
    return float((ids == targets)[counted].float().mean()) if bool(counted.any()) else 0.0


def _independent_columns(model: nn.Module, call: Call, batch: Batch, ids: Ids | None) -> bool:
    """Return whether the output's columns depend on their own inputs alone, and its rows on those of others."""
    number = ids.number if ids else 0
    x = nth_tensor(batch, number)
    if ids is None and x.dim() < 3:
        return False

    def output(values: Tensor) -> Tensor | None:
        changed = numbered(batch, lambda n, t: values if n == number else t)
        logits = logits_in(run(model, call.run, changed))
        if ids is not None and ids.flat:
            logits = logits.view(*x.shape, -1)
        return logits if logits.dim() >= 3 and logits.shape[:2] == x.shape[:2] else None

    before = output(x)
    if before is None or min(before.shape[:2]) < 2:
        return False
    columns, rows = x.clone(), x.clone()
    columns[:, 0] = other_values(x)[:, 0]
    rows[0] = other_values(x)[0]
    by_column, by_row = output(columns), output(rows)
    assert by_column is not None and by_row is not None
    return _same(by_column[:, 1:], before[:, 1:]) and not _same(by_row[1:], before[1:])


def takes_time_first(model: nn.Module, ids: Tensor) -> bool:
    """Return whether a model of ids [T, B] → logits [T, B, V] keeps the columns apart, and not the rows."""
    call = Call("model(x)", lambda model, batch: model(batch))
    return _independent_columns(model, call, ids, Ids(0))


def _same(a: Tensor, b: Tensor) -> bool:
    return bool((a - b).abs().max() <= 1e-5 * b.abs().max())


def _token_view(model: nn.Module, call: Call, batch: Batch, ids: Ids | None, layout: Layout | None) -> TokenView | None:
    """Return the view of a batch with rows along the first axis."""
    if ids is None:
        return _labels_view(model, batch)
    y = call.targets(batch) if call.targets else None
    number = next((n for n, tensor in enumerate(tensors_of(batch)) if tensor is y), None)
    if y is not None and number is None and not ids.cut and isinstance(y, Tensor):
        x = nth_tensor(batch, ids.number)
        # Targets that are computed from the batch, such as y[:, 1:].
        return TensorView(ids.number, False, None).view(call.targets if y.shape == x.shape else None)
    if _is_pair_of_ids(batch) and ids == Ids(0) and number == 1 and layout is None and call.description == "model(x)":
        return PAIRS
    x = nth_tensor(batch, ids.number)[:, : -1 if ids.cut else None]
    fitting = number is not None and isinstance(y, Tensor) and _are_ids(y) and y.shape == x.shape
    return TensorView(ids.number, ids.cut, number if fitting else None).view()


def _labels_view(model: nn.Module, batch: Batch) -> TokenView | None:
    """Return the view of an encoder-decoder of transformers, which makes the decoder's ids from the labels."""
    if not _makes_decoder_ids(model, batch):
        return None
    shifted: Callable[..., Tensor] = model.prepare_decoder_input_ids_from_labels  # type: ignore[assignment]

    def x(batch: Batch) -> Tensor:
        ids: Tensor = batch.get("decoder_input_ids")
        return shifted(labels=batch["labels"]) if ids is None else ids

    def with_x(batch: Batch, ids: Tensor) -> Batch:
        changed = resized(batch, x(batch).shape, ids.shape)
        return {**changed, "decoder_input_ids": ids}

    return TokenView(x, lambda batch: batch["labels"], with_x, logits_in)


def _makes_decoder_ids(model: nn.Module, batch: Batch) -> bool:
    return (
        hasattr(model, "prepare_decoder_input_ids_from_labels")
        and isinstance(batch, Mapping)
        and "decoder_input_ids" not in batch
        and isinstance(batch.get("labels"), Tensor)
        and _are_ids(batch["labels"])
    )


@dataclass(frozen=True)
class TensorView:
    """A view of batches by the numbers of their tensors.

    ids: of the ids [B, T]. cut: whether their last column is only a target, so that they are [B, T + 1].
    targets: of the targets [B, T]; None: they are the next ids if `cut`, or else unknown.
    """

    ids: int
    cut: bool
    targets: int | None

    def view(self, targets: Targets | None = None) -> TokenView:
        """Return the view; `targets` are used if the batch has no tensor of them."""
        has_targets = self.cut or self.targets is not None
        return TokenView(self.x, self.y if has_targets else targets, self.with_x, logits_in, self.shortened)

    def x(self, batch: Batch) -> Tensor:
        ids = nth_tensor(batch, self.ids)
        # Uncut ids of int64 are the batch's own tensor: some checks find it by identity.
        return (ids[:, :-1] if self.cut else ids).long().contiguous()

    def y(self, batch: Batch) -> Tensor:
        if self.targets is not None:
            return nth_tensor(batch, self.targets).long()
        return nth_tensor(batch, self.ids)[:, 1:].long().contiguous()

    def with_x(self, batch: Batch, ids: Tensor) -> Batch:
        old = nth_tensor(batch, self.ids)
        if self.x(batch).shape != ids.shape:
            batch = resized(batch, self.x(batch).shape, ids.shape)
        last = nth_tensor(batch, self.ids)[:, -1:]
        whole = torch.cat([ids.to(last), last], dim=1) if self.cut else ids.to(old.dtype)
        return numbered(batch, lambda number, tensor: whole if number == self.ids else tensor)

    def shortened(self, batch: Batch, t: int) -> Batch:
        rows, length = self.x(batch).shape
        return resized(batch, (rows, length), (rows, t))


def resized(batch: Batch, old: tuple[int, ...], new: tuple[int, ...]) -> Batch:
    """Return the batch with `new` rows and positions [B, T] instead of `old`; missing ones repeat those there are.

    Tensors whose first axis has B items are rows; their second axis, and those of square masks, are positions if they
    have T items, or T + 1.
    """
    (rows, length), (new_rows, new_length) = old, new

    def fit(tensor: Tensor) -> Tensor:
        if tensor.dim() and tensor.shape[0] == rows:
            tensor = tensor[torch.arange(new_rows, device=tensor.device) % rows]
            positions = {1}
        else:
            positions = set()
        if tensor.dim() >= 2 and tensor.shape[-1] == tensor.shape[-2]:
            positions |= {tensor.dim() - 2, tensor.dim() - 1}
        for axis in positions:
            if axis < tensor.dim() and 0 <= (extra := tensor.shape[axis] - length) <= 1:
                kept = torch.arange(new_length + extra, device=tensor.device) % (length + extra)
                tensor = tensor.index_select(axis, kept)
        return tensor.contiguous()

    return mapped(batch, fit)


def assumed_loss(output: Any, y: Any) -> tuple[str, Callable[[Tensor, Tensor], Tensor]] | None:
    """Return the usual loss of targets without token positions, with its name; None if there is none."""
    logits = logits_in(output)
    if not isinstance(y, Tensor) or not fits(logits, y):
        return None
    if y.is_floating_point():
        return "mean squared error", lambda output, y: F.mse_loss(output.view_as(y), y)
    if y.dtype is torch.bool:
        return None
    if logits.dim() == y.dim() + 1 and logits.shape[:1] + logits.shape[2:] == y.shape:
        return "cross-entropy", F.cross_entropy
    return "cross-entropy", lambda output, y: F.cross_entropy(output.flatten(0, -2), y.flatten())


def _words(call: Call, batch: Batch, tokens: TokenView | None, layout: Layout | None) -> str:
    shapes = ", ".join(str(list(tensor.shape)) for tensor in list(tensors_of(batch))[:6])
    kind = "ids to logits [B, T, V]" if tokens else "a model without token positions"
    turned = ", rows along the second axis" if layout is not None and layout.time_first else ""
    return f"{call.description}: {kind}; a batch holds {shapes}{turned}"

"""Notices when a script's loss or gradient is not finite, and replays that call of the model to name what was first."""

import copy
import math
import os
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._pytree import tree_leaves

from tui_lab.core.nonfinite.ranges import all_finite, dtype_name, has_values, kinds, range_of
from tui_lab.core.nonfinite.record import MAX_TEXT, TRACE_VARIABLE, BatchRow, Origin, Quantity
from tui_lab.core.nonfinite.rows import BatchShape
from tui_lab.core.nonfinite.trace import FirstNonFinite, Trace, weights_origin
from tui_lab.core.watch.model.model_calls import has_room_for_copy, is_sharded, unwrapped
from tui_lab.core.watch.model.model_search import Inputs, loss_of
from tui_lab.core.watch.model.unchanged_model import gradients_set_aside, unchanged_attributes, unchanged_buffers
from tui_lab.core.watch.model.unchanged_rng import unchanged_rng
from tui_lab.core.watch.steps.values import Scalar
from tui_lab.data.tokenizers import Tokenizer, decode

MAX_CHECKED = 2**16
"""Entries of the gradient that is checked at every step, at most."""
MAX_SUMMED = 256
"""Entries that Python adds up."""

_ON_NUMBERS = ("Mul", "Div", "Add", "Sub", "Neg", "Pow", "Exp", "Log", "Sqrt")
"""The beginnings of the names of operations with which a script changes a loss."""


class Criterion(NamedTuple):
    """A call of a loss function of torch.nn.functional. shape: of the logits."""

    name: str
    logits: Tensor
    targets: Tensor
    options: Mapping[str, Any]


class ModelCall(NamedTuple):
    """A call of the model for training, with the states of torch's generators and of autocast when it began."""

    model: nn.Module
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    inputs: Inputs
    cpu_generator: Tensor
    gpu_generator: Tensor | None
    autocast: torch.dtype | None

    @classmethod
    def of(cls, model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], inputs: Inputs) -> "ModelCall":
        x = inputs.x
        device = "cpu" if x is None or x.is_cpu else x.device.type
        return cls(
            model=model,
            args=args,
            kwargs=kwargs,
            inputs=inputs,
            cpu_generator=torch.get_rng_state(),
            gpu_generator=None if x is None or not x.is_cuda else torch.cuda.get_rng_state(x.device),
            autocast=torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None,
        )

    @property
    def tensors(self) -> list[Tensor]:
        return [leaf for leaf in tree_leaves((self.args, dict(self.kwargs))) if isinstance(leaf, Tensor)]

    @contextmanager
    def conditions(self) -> Iterator[None]:
        """The generators and autocast as they were; the script's own are as before at the end of the block."""
        device = self.inputs.x.device if self.inputs.x is not None else torch.device("cpu")
        cast = nullcontext() if self.autocast is None else torch.autocast(device.type, dtype=self.autocast)
        with unchanged_rng(), cast, torch.enable_grad():
            torch.set_rng_state(self.cpu_generator)
            if self.gpu_generator is not None:
                torch.cuda.set_rng_state(self.gpu_generator, device)
            yield


class NonFiniteWatch:
    """Looks at the loss before each backward pass and at one small gradient after it, and traces once a run.

    A GPU is not waited for: there, values are only looked at when it has nothing left to do. report: gets the origin.
    uncounted: a context for what does not belong to the time of the script.
    """

    def __init__(
        self,
        report: Callable[[Origin], None],
        uncounted: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        mode = os.environ.get(TRACE_VARIABLE, "")
        self.is_active = mode != "off"
        self._waits = mode == "always"
        self._report = report
        self._uncounted = uncounted
        self._call: ModelCall | None = None
        self._criterion: Criterion | None = None
        self._checked: weakref.ref[Tensor] | None = None
        self._is_scaled = False
        self.tokenizer: Callable[[], Tokenizer | None] = lambda: None

    def called(self, model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], inputs: Inputs) -> None:
        """The model is about to be called for training."""
        if self.is_active:
            self._call = ModelCall.of(model, args, kwargs, inputs)
            self._criterion = None

    def criterion(self, name: str, logits: Tensor, targets: Tensor, options: Mapping[str, Any]) -> None:
        """A loss function was called for training."""
        if self.is_active:
            self._criterion = Criterion(name, logits, targets, options)

    def backward(self, loss: Tensor, value: Scalar, *, is_scaled: bool) -> None:
        """A backward pass is about to begin. value: of the loss.

        is_scaled: by GradScaler, whose gradients may overflow.
        """
        self._is_scaled = is_scaled
        if self._can_look_at(value) and not math.isfinite(value):
            self._trace("loss", loss)

    def after_backward(self) -> None:
        """A backward pass has ended: look at the gradient of a parameter near the input, which all others reach."""
        call = self._call
        if call is None or self._is_scaled:
            return
        parameter = self._checked() if self._checked is not None else None
        if parameter is None or parameter.grad is None:
            parameter = _checked_parameter(call.model)
            self._checked = None if parameter is None else weakref.ref(parameter)
        gradient = None if parameter is None else parameter.grad
        if gradient is None or not self._can_look_at(gradient) or math.isfinite(_sum(gradient)):
            return
        if not all_finite([gradient]):  # The sum alone may overflow.
            self._trace("gradient", None)

    def clipped(self, norm: Scalar) -> None:
        """The script measured the norm of its gradients."""
        if not self._is_scaled and self._can_look_at(norm) and not math.isfinite(norm):
            self._trace("gradient", None)

    def skipped(self, scale: Tensor | None) -> None:
        """GradScaler skipped a step; with a scale of 1 or less, no smaller one will help."""
        if scale is not None and self.is_active and self._call is not None and float(scale) <= 1.0:
            self._trace("gradient", None)

    def end_step(self) -> None:
        """The step has been made: what it was called with is not needed any more."""
        self._call = None
        self._criterion = None

    def _can_look_at(self, tensor: Scalar) -> bool:
        if not self.is_active or self._call is None:
            return False
        if isinstance(tensor, float):
            return True
        if is_sharded(tensor):
            return False
        if tensor.is_cpu or self._waits:
            return True
        return tensor.is_cuda and torch.cuda.current_stream(tensor.device).query()

    def _trace(self, quantity: Quantity, loss: Tensor | None) -> None:
        call = self._call
        self.is_active = False
        if call is None or is_sharded(call.model):
            return
        with self._uncounted():
            try:
                origin = self._origin(call, quantity, loss)
            finally:
                self.end_step()
            self._report(origin)

    def _origin(self, call: ModelCall, quantity: Quantity, loss: Tensor | None) -> Origin:
        model = unwrapped(call.model)
        x = call.inputs.x
        n_batch = int(x.shape[0]) if x is not None and x.dim() else 0
        before = weights_origin(model, quantity, n_batch)
        if before is not None:
            return before
        shape = BatchShape(n_batch, int(x.shape[1]) if x is not None and call.inputs.has_tokens else 0)
        with replica_of(model) as replica, call.conditions():
            trace = Trace(replica, self._name_row, original=model)
            try:
                with trace.recording():
                    trace.begin_batch(call.tensors, shape, n_batch)
                    self._replay(trace, replica, call, quantity)
            except FirstNonFinite as first:
                return first.origin
        return self._loss_origin(loss, n_batch) if loss is not None else _unknown(quantity, n_batch)

    def _replay(self, trace: Trace, replica: nn.Module, call: ModelCall, quantity: Quantity) -> None:
        output = replica(*call.args, **call.kwargs)
        loss = loss_of(output)
        if loss is None and self._criterion is not None:
            loss = criterion_loss(output, self._criterion)
        for tensor in tree_leaves(output) if quantity == "loss" and loss is None else []:
            if isinstance(tensor, Tensor):
                trace.check_output(tensor)
        if loss is None:
            return
        trace.check_loss(loss)
        if quantity == "gradient" and loss.requires_grad:
            trace.begin_backward(loss)
            loss.backward()  # type: ignore[no-untyped-call]
            trace.check_sums(trace.gradients())

    def _loss_origin(self, loss: Tensor, n_batch: int) -> Origin:
        """Return the origin where all that can be replayed is finite: in what the script makes of it."""
        criterion = self._criterion
        logits = None if criterion is None else criterion.logits
        is_known = logits is not None and has_values(logits)
        present = kinds(loss) if has_values(loss) else frozenset()
        return Origin(
            quantity="loss",
            phase="loss",
            kind=next((kind for kind in ("inf", "-inf", "nan") if kind in present), "nan"),
            operation=" or ".join(_operations_on_numbers(loss)),
            inputs=(range_of("logits", logits),) if logits is not None and is_known else (),
            dtype=dtype_name(loss.dtype),
            n_batch=n_batch,
        )

    def _name_row(self, row: int) -> BatchRow:
        x = None if self._call is None or not self._call.inputs.has_tokens else self._call.inputs.x
        tokenizer = self.tokenizer()
        if x is None or tokenizer is None or row >= len(x):
            return BatchRow(row=row)
        return BatchRow(row=row, text=decode(tokenizer, x[row, :MAX_TEXT].tolist())[:MAX_TEXT])


def _operations_on_numbers(loss: Tensor) -> list[str]:
    """Return the operations that made the loss of one other number, the first one first.

    Which of them was not finite is not known, as their results are not kept.
    """
    operations: list[str] = []
    node = loss.grad_fn
    while node is not None:
        operations.insert(0, node.name())
        inputs = [function for function, _ in node.next_functions if function is not None]
        node = inputs[0] if len(inputs) == 1 and inputs[0].name().startswith(_ON_NUMBERS) else None
    return operations


def criterion_loss(output: Any, criterion: Criterion) -> Tensor | None:
    """Return the loss of what a model returned, computed as the script did.

    None where its logits cannot be found again.

    The script may flatten them, or leave out the last position.
    """
    function = getattr(F, criterion.name)
    shape = criterion.logits.shape
    for logits in tree_leaves(output if not hasattr(output, "logits") else output.logits):
        if not isinstance(logits, Tensor) or not logits.is_floating_point():
            continue
        shifted = logits[:, :-1] if logits.dim() == 3 else logits
        for candidate in (logits, shifted):
            if candidate.numel() == criterion.logits.numel() and (
                candidate.shape == shape or candidate.shape[-1] == shape[-1]
            ):
                loss: Tensor = function(candidate.reshape(shape), criterion.targets, **criterion.options)
                return loss
    return None


@contextmanager
def replica_of(model: nn.Module) -> Iterator[nn.Module]:
    """A copy of the model, or the model itself where it cannot be copied, as with a loss among its attributes.

    The model stays as it is. With a copy, too, it needs care: a function that it keeps, such as a lambda, is not copied
    and calls the model's own modules.
    """
    with gradients_set_aside(model), unchanged_buffers(model), unchanged_attributes(model):
        yield _copied(model) or model


def _copied(model: nn.Module) -> nn.Module | None:
    try:
        return copy.deepcopy(model) if has_room_for_copy(model) else None
    except Exception:  # Any module of a user may refuse, in its own way.
        return None


def _sum(gradient: Tensor) -> float:
    """Return the sum of a gradient. Python adds a few numbers in less time than a call of torch takes."""
    if gradient.is_cpu and gradient.dim() == 1 and len(gradient) <= MAX_SUMMED:
        return float(sum(gradient.tolist()))
    return float(gradient.sum())


def _checked_parameter(model: nn.Module) -> Tensor | None:
    """Return a small parameter with a gradient near the input.

    What is not finite in the backward pass spreads to there.
    """
    with_gradient = [p for p in model.parameters() if p.grad is not None and p.grad.layout == torch.strided]
    early = with_gradient[: max(1, len(with_gradient) // 4)]
    smallest = min(early, key=Tensor.numel, default=None)
    return smallest if smallest is not None and smallest.numel() <= MAX_CHECKED else None


def _unknown(quantity: Quantity, n_batch: int) -> Origin:
    return Origin(quantity=quantity, phase="unknown", n_batch=n_batch)

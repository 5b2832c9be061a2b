"""Replays one step under a tape and names what became non-finite first.

It costs nothing until it is needed. torch.autograd.detect_anomaly, fairseq's NanDetector and the
DebugUnderflowOverflow of transformers look at the output of each module or the result of each node. Here every
operation is followed, so a mask of -inf is not a fault, and an operation between modules has a name, a line and rows.
"""

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor, nn

from tui_lab.core.nonfinite.places import Places
from tui_lab.core.nonfinite.ranges import dtype_name, has_values, is_finite, kinds, range_of, real
from tui_lab.core.nonfinite.record import (
    MAX_POSITIONS,
    MAX_ROWS,
    BatchRow,
    Kind,
    Origin,
    Phase,
    Quantity,
)
from tui_lab.core.nonfinite.rows import BatchShape, RowFinder, key_of
from tui_lab.core.nonfinite.tape import Birth, Tape

_LOSSES = ("nll_loss_forward", "nll_loss2d_forward", "_log_softmax", "binary_cross_entropy_with_logits", "mse_loss")
NameRow = Callable[[int], BatchRow]
"""A row's place in the batch → the row with its example and text."""


class FirstNonFinite(Exception):
    """Ends the replay."""

    def __init__(self, origin: Origin) -> None:
        super().__init__()
        self.origin = origin


def module_names(model: nn.Module) -> dict[int, tuple[str, str]]:
    """Return the name and class of every module, by id; the model's own name is ""."""
    return {id(module): (name, type(module).__name__) for name, module in model.named_modules()}


class Trace:
    """Follows one replay: `with trace.recording():`, then for each micro-batch begin_batch, check_loss and, if there is
    a backward pass, begin_backward before it and check_gradients after it. Each raises FirstNonFinite.

    model: whose parameters are trained. named: the module whose names are shown, where the model is a wrapper of it.
    original: where the model is a copy: what it is a copy of. A function that the model keeps, such as a lambda, still
    calls the modules of the original.
    """

    def __init__(
        self,
        model: nn.Module,
        name_row: NameRow,
        *,
        named: nn.Module | None = None,
        original: nn.Module | None = None,
        scale: float = 1.0,
    ) -> None:
        named = named or model
        self._modules = [named] if original is None else [named, original]
        self._names = {id(model): ("", type(named).__name__)}
        for module in self._modules:
            self._names |= module_names(module)
        self._types = {name: kind for name, kind in self._names.values()}
        self._parameters = {name: p for name, p in named.named_parameters() if p.requires_grad}
        self._name_row = name_row
        self._scale = scale
        self._micro_batch: int | None = None
        self._n_batch = 0
        called = dict.fromkeys(each for module in (model, *self._modules) for each in module.modules())
        self._places = Places(called, self._names)
        self._rows = RowFinder()
        weights = {key_of(p): name for module in self._modules for name, p in module.named_parameters()}
        buffers = {key_of(b): name for module in self._modules for name, b in module.named_buffers()}
        self._tape = Tape(self._places, self._rows, weights, buffers)
        self._tape.watch_shapes(tuple(p.shape) for p in self._parameters.values())

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Follow what is computed in the block, backward passes included."""
        handles = [
            p.register_hook(_Check(self, name))  # type: ignore[no-untyped-call]
            for module in self._modules
            for name, p in module.named_parameters()
            if p.requires_grad
        ]
        was_anomalous = torch.is_anomaly_enabled()
        checked_nan = torch.is_anomaly_check_nan_enabled()
        torch.autograd.set_detect_anomaly(True, check_nan=False)  # It keeps the line of each node.
        try:
            with warnings.catch_warnings(), self._places.installed(), self._tape:
                # Of anomaly mode, when a hook ends the backward pass by FirstNonFinite.
                warnings.filterwarnings("ignore", "Error detected in", UserWarning)
                yield
        finally:
            torch.autograd.set_detect_anomaly(was_anomalous, check_nan=checked_nan)
            for handle in handles:
                handle.remove()

    def begin_batch(
        self, tensors: Sequence[Tensor], shape: BatchShape, n_batch: int, micro_batch: int | None = None
    ) -> None:
        """The model is about to be called with `tensors`. n_batch: rows of all micro-batches."""
        self._micro_batch = micro_batch
        self._n_batch = n_batch
        self._tape.is_backward = False
        self._places.enter_node(None)
        self._rows.begin(shape, tensors)

    def check_loss(self, loss: Tensor) -> None:
        """Raises FirstNonFinite if the loss is not finite."""
        if not has_values(loss) or is_finite(loss):
            return
        result = self._tape.result_of(loss)
        if result is None:
            raise FirstNonFinite(self._origin("loss", "unknown", kind=_kind(loss), output=range_of("output", loss)))
        raise FirstNonFinite(self._born("loss", result.first_birth()))

    def check_output(self, output: Tensor) -> None:
        """As check_loss, for what a model returns; it may hold infinities on purpose."""
        if has_values(output) and not is_finite(output):
            result = self._tape.result_of(output)
            if result is not None and not result.is_on_purpose:
                raise FirstNonFinite(self._born("loss", result.first_birth()))

    def begin_backward(self, loss: Tensor) -> None:
        """The backward pass is about to begin at `loss`."""
        self._places.follow(loss)
        self._tape.is_backward = True

    def check_gradient(self, name: str, gradient: Tensor) -> None:
        """Raises FirstNonFinite if the new gradient of the parameter `name` is not finite."""
        if not has_values(gradient) or is_finite(gradient):
            return
        result = self._tape.result_of(gradient)
        if result is None:
            ranges = range_of("gradient", gradient)
            raise FirstNonFinite(
                self._origin("gradient", "unknown", kind=_kind(gradient), parameter=name, output=ranges)
            )
        raise FirstNonFinite(replace(self._born("gradient", result.first_birth()), parameter=name))

    def check_sums(self, gradients: Mapping[str, Tensor]) -> None:
        """Raises FirstNonFinite if a sum of finite gradients overflows, or the norm of all gradients."""
        for name, gradient in gradients.items():
            if has_values(gradient) and not is_finite(gradient):
                ranges = range_of("gradient", gradient)
                raise FirstNonFinite(
                    self._origin(
                        "gradient", "sum", kind=_kind(gradient), cause="overflow", parameter=name, output=ranges
                    )
                )
        norms = {name: float(torch.linalg.vector_norm(g)) for name, g in gradients.items() if has_values(g)}
        if not math.isfinite(math.hypot(*norms.values())):
            name = max(norms, key=lambda name: float(real(gradients[name]).abs().max()))
            ranges = range_of("gradient", gradients[name])
            raise FirstNonFinite(
                self._origin("gradient", "norm", kind="inf", cause="overflow", parameter=name, output=ranges)
            )

    def gradients(self) -> dict[str, Tensor]:
        """Return the gradients that the parameters have now, by the names that are shown."""
        parameters = [item for module in self._modules for item in module.named_parameters()]
        return {name: p.grad for name, p in parameters if p.grad is not None}

    def _born(self, quantity: Quantity, birth: Birth) -> Origin:
        module, kind = birth.module
        is_inside = bool(kind)
        if not is_inside and birth.parameter:
            module = birth.parameter.rpartition(".")[0]
            kind = self._types.get(module, "")
        rows = birth.rows.positions if birth.rows is not None else {}
        named = [
            replace(self._name_row(row), positions=tuple(rows[row][:MAX_POSITIONS])) for row in sorted(rows)[:MAX_ROWS]
        ]
        origin = self._origin(
            quantity,
            self._phase(birth),
            kind=birth.kind,
            cause=birth.cause,
            module=module,
            module_type=kind,
            operation=birth.node if birth.is_backward and birth.node else birth.operation,
            parameter=birth.parameter if birth.cause == "already" else "",
            inputs=birth.inputs,
            output=birth.output,
            line=birth.line,
        )
        return replace(origin, dtype=_dtype(birth), rows=tuple(named), n_rows=len(rows))

    def _phase(self, birth: Birth) -> Phase:
        if birth.cause == "already":
            return "weights" if birth.parameter in self._parameters else "data"
        if birth.is_backward:
            return "backward"
        is_outside = not birth.module[1] and not birth.parameter
        # The built-in model is not called but asked for its loss; of its own, it only adds embeddings.
        is_loss = birth.operation in _LOSSES or (
            is_outside and (self._places.entered_model or birth.operation != "add")
        )
        return "loss" if is_loss else "forward"

    def _origin(self, quantity: Quantity, phase: Phase, **fields: object) -> Origin:
        values = {
            "quantity": quantity,
            "phase": phase,
            "n_batch": self._n_batch,
            "scale": self._scale,
            "micro_batch": self._micro_batch,
            **fields,
        }
        return Origin(**values)  # type: ignore[arg-type]


class _Check:
    """A hook on one parameter, called when its gradient is computed."""

    def __init__(self, trace: Trace, name: str) -> None:
        self._trace = trace
        self._name = name

    def __call__(self, gradient: Tensor) -> None:
        self._trace.check_gradient(self._name, gradient)


def weights_origin(model: nn.Module, quantity: Quantity, n_batch: int) -> Origin | None:
    """Return the origin if a parameter is not finite before the step; None if all are finite."""
    bad = {name: p for name, p in model.named_parameters() if has_values(p) and not is_finite(p)}
    if not bad:
        return None
    name, parameter = next(iter(bad.items()))
    module = name.rpartition(".")[0]
    types = {name: kind for name, kind in module_names(model).values()}
    return Origin(
        quantity=quantity,
        phase="weights",
        kind=_kind(parameter),
        cause="already",
        module=module,
        module_type=types.get(module, ""),
        parameter=name,
        dtype=dtype_name(parameter.dtype),
        inputs=(range_of(name, parameter),),
        n_parameters=len(bad),
        n_batch=n_batch,
    )


def _kind(tensor: Tensor) -> Kind:
    present = kinds(tensor)
    return next(kind for kind in ("inf", "-inf", "nan") if kind in present)


def _dtype(birth: Birth) -> str:
    if birth.output is not None:
        return birth.output.dtype
    return birth.inputs[0].dtype if birth.inputs else ""

"""What is kept of a script's first training calls: batches, initial weights, the loss's tape, and where tokens are."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from tui_lab.core.doctor.loop.call_capture import CallCapture
from tui_lab.core.doctor.program.nested import Path, at, mapped, tensors_in
from tui_lab.core.doctor.script.kept_states import KeptStates
from tui_lab.core.doctor.script.tape import Inputs, Tape, TapeError, autocast_dtype, device_of
from tui_lab.core.doctor.script.tape_recorder import TapeRecorder
from tui_lab.core.doctor.script.token_form import (
    AGREEMENT,
    Targets,
    TokenForm,
    aligned_targets,
    flat_logits,
    inner_form,
    token_forms,
    with_layout,
)
from tui_lab.core.doctor.script.vocabularies import Vocabulary, script_vocabularies
from tui_lab.core.watch.model.model_calls import is_sharded, unwrapped

MAX_BATCHES = 16
"""Backward calls whose batches are kept."""
MAX_BYTES = 512 * 2**20
"""Bytes of all batches that are kept."""
MAX_CRITERIA = 8
"""Loss functions for one loss that are kept, with what they got."""
MAX_WEIGHT_BYTES = 4 * 2**30
"""Largest model whose initial weights are kept."""


@dataclass(frozen=True)
class Criterion:
    """A call of one of torch's loss functions. value: what it returned, if that is a scalar.

    flat: its input as [N, V], and targets [N]; None for another form, such as for targets that are probabilities.
    """

    name: str
    value: float | None
    flat: tuple[Tensor, Tensor] | None
    options: dict[str, Any]


@dataclass(frozen=True)
class CapturedStep:
    """One backward call of the script.

    inputs: args and kwargs of the model's calls that its loss depends on. tape: None: see `problem`.
    loss: what backward() got, before a GradScaler multiplied it; scale: the loss scale.
    form: where ids and logits of the model's only call are; None if it has none, or there are several calls.
    module: the number of the module that is called; of the first, if several are.
    targets: those of torch's cross-entropy. criterion: the last loss function of torch that was called.
    autocast: the dtype of autocast in the model's call. training: the mode of the model.
    returned: the places of the tensors that the model's only call returned, and their numbers of axes.
    """

    inputs: Inputs
    tape: Tape | None
    problem: str
    loss: float
    scale: float
    module: int
    form: TokenForm | None
    targets: Targets | None
    criterion: str
    autocast: torch.dtype | None
    training: bool
    returned: tuple[tuple[Path, int], ...] = ()
    is_no_batch: ClassVar[bool] = True

    @property
    def call(self) -> int | None:
        """The number of the model's call, None if the loss depends on several."""
        numbers = set(self.inputs if self.tape is None else self.tape.calls)
        return next(iter(numbers)) if len(numbers) == 1 else None


@dataclass
class InitialState:
    """What the script has at its first training call.

    weights: of each module, None if they were not kept. groups: the settings of each optimizer's groups.
    has_state: whether an optimizer has a state already, so that it continues an earlier training.
    """

    weights: list[tuple[nn.Module, dict[str, Tensor] | None]] = field(default_factory=list)
    groups: list[tuple[Optimizer, list[dict[str, Any]]]] = field(default_factory=list)
    has_state: bool = False

    def keep_optimizers(self, optimizers: Iterable[Optimizer]) -> None:
        """Keep the settings of all parameter groups."""
        for optimizer in optimizers:
            groups = [{key: v for key, v in group.items() if key != "params"} for group in optimizer.param_groups]
            self.groups.append((optimizer, groups))
            # LBFGS has counted its step before it calls the model for the first time.
            states = [state for state in optimizer.state.values() if any(isinstance(v, Tensor) for v in state.values())]
            self.has_state = self.has_state or bool(states)

    def keep(self, module: nn.Module) -> None:
        """Keep the weights of a module, unless they are kept already or too large."""
        if any(module is other for other, _ in self.weights):
            return
        n_bytes = sum(t.numel() * t.element_size() for t in module.state_dict().values() if isinstance(t, Tensor))
        keeps = n_bytes <= MAX_WEIGHT_BYTES and not is_sharded(module) and not _is_lazy(module)
        self.weights.append((module, _weights(module) if keeps else None))

    def restore(self) -> list[str]:
        """Give the modules their initial weights back; return the names of those whose weights were not kept."""
        missing = []
        for module, weights in self.weights:
            if weights is None:
                missing.append(type(module).__name__)
                continue
            with torch.no_grad():
                for name, tensor in _weights(module, copied=False).items():
                    if name in weights and weights[name].shape == tensor.shape:
                        tensor.copy_(weights[name])
        return missing


class Capture(CallCapture):
    """Listens to a LoopRecorder, for the first MAX_BATCHES backward calls."""

    def __init__(self, optimizers: Callable[[], Iterable[Optimizer]] = tuple) -> None:
        """optimizers: () → those that exist."""
        self._optimizers = optimizers
        self.steps: list[CapturedStep] = []
        self.modules: list[nn.Module] = []
        """The modules that are called, without compiled and parallel wrappers, each once."""
        self.initial = InitialState()
        self.states = KeptStates()
        self.vocabularies: frozenset[Vocabulary] = frozenset()
        """Those of the tokenizers that the script has at its first training call."""
        self.first_output: Any = None
        """What the first training call returned, for a script that never calls backward."""
        self._tape: TapeRecorder | None = None
        self._abandoned = False
        """Whether a mode of ours could not be taken off torch's stack."""
        self._inputs: dict[int, tuple[tuple[Any, ...], dict[str, Any]]] = {}
        self._bytes = 0
        self._criteria: list[Criterion] = []
        """The calls of loss functions for the present loss."""
        self._forms: dict[int, tuple[torch.dtype | None, bool]] = {}

    @property
    def is_complete(self) -> bool:
        return len(self.steps) >= MAX_BATCHES or self._bytes > MAX_BYTES or self._abandoned

    def training_call(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        model = unwrapped(model)
        if not any(model is other for other in self.modules):
            if not self.modules:
                self.initial.keep_optimizers(self._optimizers())
                self.vocabularies = script_vocabularies()
            self.modules.append(model)
            self.initial.keep(model)
            self.states.remember(model)
        if self.is_complete:
            self.close()
            return
        if self._tape is not None and not self._is_open:
            self.close()
        if self._tape is None:
            self._tape = TapeRecorder(self.modules)
            self._inputs = {}
            self._forms = {}
            self._criteria = []
            self._is_open = True
        number = self._tape.called(model, args, kwargs)
        if number < 0:
            return
        self._inputs[number] = (mapped(args, self._copied), mapped(kwargs, self._copied))
        self._forms[number] = (autocast_dtype(device_of([model])), model.training)

    _is_open = False
    """Whether the tape has not got its loss yet."""

    def returned(self, output: Any) -> None:
        if self.first_output is None:
            self.first_output = output
        if self._tape is None or not self._is_open:
            return
        is_first = not self._tape.outputs
        self._tape.returned(output)
        if is_first:
            self._tape.begin()

    def criterion(self, name: str, output: Tensor, targets: Tensor, options: dict[str, Any]) -> None:
        """One of torch's loss functions returned `output`, with gradients. options: with its `input`."""
        if self._tape is None or not self._is_open:
            return
        options = dict(options)
        logits = options.pop("input", None)
        flat = _flat(logits, targets) if name in ("cross_entropy", "nll_loss") else None
        value = float(output.detach()) if output.dim() == 0 else None
        self._criteria = [*self._criteria[1 - MAX_CRITERIA :], Criterion(name, value, flat, options)]

    def backward(self, loss: Tensor, scale: float = 1.0) -> None:
        """Backpropagation of `loss` begins; a GradScaler multiplied it by `scale`."""
        tape = self._tape
        self._is_open = False
        if tape is None or self.is_complete:
            return
        try:
            finished: Tape | None = tape.finish(loss)
            problem = ""
        except TapeError as error:
            finished = None
            problem = str(error)
        inputs = dict(self._inputs) if finished is None else self._needed_inputs(finished)
        calls = list(tape.outputs) if finished is None else finished.calls
        value = float(loss.detach()) / scale
        form, targets, criterion = self._tokens(tape, calls, value)
        self.steps.append(
            CapturedStep(
                inputs=inputs,
                tape=finished,
                problem=problem,
                loss=value,
                scale=scale,
                module=tape.number_of(calls[0]) if calls else 0,
                form=form,
                targets=targets,
                criterion="" if criterion is None else criterion.name,
                autocast=self._forms[calls[0]][0] if calls else None,
                training=self._forms[calls[0]][1] if calls else True,
                returned=_axes_of(tape.outputs[calls[0]]) if calls else (),
            )
        )

    def _tokens(
        self, tape: TapeRecorder, calls: list[int], loss: float
    ) -> tuple[TokenForm | None, Targets | None, Criterion | None]:
        """Return where ids and logits are, the targets of a cross-entropy of these logits, and that cross-entropy.

        Of several, as of heads for different tasks, it is that of the next ids, else that of the ids themselves, else
        that of the logits that the model returns first. None for what there is not.
        """
        last = self._criteria[-1] if self._criteria else None
        if len(set(calls)) != 1:
            return None, None, last
        call = calls[0]
        model = self.modules[tape.number_of(call)]
        inputs, output = self._inputs[call], tape.outputs[call]
        of_classes = [criterion for criterion in self._criteria if criterion.flat is not None]
        flat = of_classes[-1].flat if of_classes else None
        forms = list(token_forms(model, inputs, output, None if flat is None else flat[1]))
        if not forms and flat is not None and (inner := inner_form(model, inputs, flat)) is not None:
            forms = [inner]
        if not forms:
            return None, None, last
        aligned = []
        for form in forms:
            x = at(inputs, form.x)
            for criterion in of_classes:
                laid_out = with_layout(form, x, output, criterion.flat)
                ratio = loss / criterion.value if criterion is last and criterion.value else None
                assert criterion.flat is not None
                targets = aligned_targets(laid_out, x, output, criterion.flat, ratio, criterion.options)
                if targets is not None:
                    aligned.append((laid_out, targets, criterion))
        if aligned:
            return max(aligned, key=lambda each: _rank(each[0].ids(inputs), each[1]))
        return with_layout(forms[0], at(inputs, forms[0].x), output, flat), None, last

    def close(self) -> None:
        """Stop to see functions, and hold no tensor of the script."""
        if self._tape is not None and not self._tape.close():
            self._abandoned = True
        self._tape = None
        self._is_open = False

    def _copied(self, tensor: Tensor) -> Tensor:
        self._bytes += tensor.numel() * tensor.element_size()
        return tensor.detach().clone()

    def _needed_inputs(self, tape: Tape) -> Inputs:
        numbers = {*tape.calls, *tape.used_inputs}
        return {number: inputs for number, inputs in self._inputs.items() if number in numbers}


def _flat(logits: Any, targets: Tensor) -> tuple[Tensor, Tensor] | None:
    """Return logits [N, V] and targets [N] of a cross-entropy over classes; None for another form."""
    if not isinstance(logits, Tensor) or targets.is_floating_point() or logits.dim() != targets.dim() + 1:
        return None
    return flat_logits(logits.detach()), targets.detach().reshape(-1).clone()


def _rank(x: Tensor, targets: Targets) -> int:
    """Return 2 if most counted targets are the next ids of x [B, T], 1 if they are the ids themselves, else 0."""
    return 2 * _are_later(x, targets, 1) or int(_are_later(x, targets, 0))


def _are_later(x: Tensor, targets: Targets, k: int) -> bool:
    later = x[:, k:]
    y = targets.y[:, : later.shape[1]]
    counted = y != targets.ignored
    return y.shape == later.shape and bool(counted.any()) and float((y == later)[counted].float().mean()) > AGREEMENT


def _axes_of(output: Any) -> tuple[tuple[Path, int], ...]:
    return tuple((path, tensor.dim()) for path, tensor in tensors_in(output))


def _is_lazy(module: nn.Module) -> bool:
    return any(isinstance(p, nn.parameter.UninitializedParameter) for p in module.parameters())


def _weights(module: nn.Module, *, copied: bool = True) -> dict[str, Tensor]:
    """Return the parameters and buffers that a checkpoint would hold, by name.

    Other buffers are caches: an attribute, which is not a tensor, may tell how far they are filled.
    """
    caches = {
        f"{prefix}.{name}" if prefix else name
        for prefix, part in module.named_modules()
        for name in part._non_persistent_buffers_set
    }
    buffers = {name: buffer for name, buffer in module.named_buffers() if name not in caches}
    named = {**dict(module.named_parameters()), **buffers}
    return {name: tensor.detach().clone() if copied else tensor for name, tensor in named.items()}

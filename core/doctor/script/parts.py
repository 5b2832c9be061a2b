"""A program that does what a script does: batches, forward, loss and update, from the steps that were captured."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from tui_lab.core.doctor.findings import NotJudged
from tui_lab.core.doctor.loop.loss_course import are_shares
from tui_lab.core.doctor.loop.record import LoopRecord
from tui_lab.core.doctor.program.batch import Batch, n_rows
from tui_lab.core.doctor.program.nested import at, mapped, only
from tui_lab.core.doctor.program.tokens import TokenView
from tui_lab.core.doctor.script.capture import Capture, CapturedStep
from tui_lab.core.doctor.script.divided_sums import n_counted, n_divided
from tui_lab.core.doctor.script.splits import autocast_of, row_constants, splits_into_rows
from tui_lab.core.doctor.script.tape import Inputs, Tape
from tui_lab.core.doctor.script.token_form import Targets, TokenForm
from tui_lab.core.watch.model.unchanged_rng import unchanged_rng

SAME_RATIO = 1e-4
"""Relative difference up to which two ratios of losses are equal."""


@dataclass(frozen=True, slots=True)  # With slots, so that UpdateState takes the batches for no state of the update.
class ScriptParts:
    """What a trial needs to do what the script does.

    modules: (model) → the modules that the script calls, in the order of the tape's numbers.
    steps: those captured; all have the same form. factor: what a replayed loss is multiplied by, so that it is the
    mean loss of its batch without the loss scale and the division by the number of micro-batches.
    plain: whether the loss is the cross-entropy of the logits, times a constant. inside: whether the model computes it.
    splits: whether another loss can be computed from some rows of the batch.
    are_shares: whether the losses of an update's micro-batches add up to the mean over all of its targets.
    needs_training: whether the model does not return what the loss uses in evaluation mode. follows_flag: whether it
    does if its own `training` is set, and that of its parts is not.
    """

    modules: Callable[[nn.Module], Sequence[nn.Module]]
    steps: Sequence[CapturedStep]
    form: TokenForm | None
    plain: Targets | None
    ratio: float
    factor: float
    inside: bool
    problem: str
    splits: bool = False
    are_shares: bool = False
    needs_training: bool = False
    follows_flag: bool = False

    # Batches

    def batch(self, number: int) -> Batch:
        """Return a captured batch: args and kwargs of the model's call, the targets, and the step for its loss."""
        step = self.steps[number % len(self.steps)]
        call = step.call
        if call is None:
            calls = {f"call {i}": {"args": args, "kwargs": kwargs} for i, (args, kwargs) in step.inputs.items()}
            return {**calls, "step": step}
        args, kwargs = step.inputs[call]
        if self.form is not None:
            args, kwargs = self.form.batch_first((args, kwargs))
        batch: dict[str, Any] = {"args": args, "kwargs": kwargs, "step": step}
        if self.splits and step.tape is not None:
            batch["constants"] = row_constants(step.tape, n_rows((args, kwargs)))
        if step.targets is None:
            return batch
        # A number, which stays when rows are cut off. Outside the model, a tape counts the targets again, unless the
        # number is that of the whole update.
        n = n_divided(step.targets) if self.inside or self.are_shares else 0
        return {**batch, "targets": step.targets.y, "n divided": n}

    def _inputs(self, batch: Batch) -> Inputs:
        """Return the arguments as the script passes them."""
        step: CapturedStep = batch["step"]
        call = step.call
        if call is None:
            return {
                number: (batch[f"call {number}"]["args"], batch[f"call {number}"]["kwargs"]) for number in step.inputs
            }
        arguments = (batch["args"], batch["kwargs"])
        return {**step.inputs, call: arguments if self.form is None else self.form.batch_first(arguments)}

    # Calls

    def forward(self, model: nn.Module, batch: Batch) -> Any:
        """Return what the model returns, with logits [B, T, V] if it has any. Raises NotJudged for several calls."""
        step: CapturedStep = batch["step"]
        if step.call is None:
            raise NotJudged(
                "the script calls its model several times for one loss; only its loop and loss are examined"
            )
        args, kwargs = self._inputs(batch)[step.call]
        module = self._called(model, step)
        with autocast_of(step.autocast, model):
            if self.form is None:
                return module(*args, **kwargs)
            return self.form.forward(lambda: module(*args, **kwargs), at((args, kwargs), self.form.x))

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the mean loss of a batch. Raises NotJudged if the script's loss is not known."""
        step: CapturedStep = batch["step"]
        if self.plain is not None and not self.inside:
            return self.output_loss(self.forward(model, batch), batch)
        if step.tape is None:
            raise NotJudged(f"the script's loss could not be followed: {step.problem}")
        constants = batch.get("constants")
        self._called(model, step)
        return step.tape.replay(self.modules(model), self._inputs(batch), None, constants) * self._factor(batch)

    def _called(self, model: nn.Module, step: CapturedStep) -> nn.Module:
        """Return the module that a step calls. Raises NotJudged where its mode makes it return something else."""
        module = self.modules(model)[step.module]
        if self.needs_training and not module.training:
            raise NotJudged("the model returns something else in evaluation mode, of which its loss is not known")
        return module

    def output_loss(self, output: Any, batch: Batch, model: nn.Module | None = None) -> Tensor:
        """Return the loss for what `forward` returned, or for logits [B, T, V] alone."""
        step: CapturedStep = batch["step"]
        form = self.form
        if self.plain is not None and form is not None:
            logits = output if isinstance(output, Tensor) else at(output, form.logits)
            function = F.nll_loss if step.criterion == "nll_loss" else F.cross_entropy
            y = batch["targets"].reshape(-1)
            loss: Tensor = function(logits.reshape(-1, logits.shape[-1]), y, **_options(self.plain.options))
            return loss * (self.ratio * self.factor)
        if step.tape is None:
            raise NotJudged(f"the script's loss could not be followed: {step.problem}")
        assert model is not None
        if form is not None:
            output = form.original(self._whole(output, step.tape))
        replayed = step.tape.replay(self.modules(model), self._inputs(batch), output, batch.get("constants"))
        return replayed * self._factor(batch)

    def _factor(self, batch: Batch) -> float:
        """Return what turns a replayed loss into the mean loss of the batch, which may be some rows of the step's."""
        step: CapturedStep = batch["step"]
        factor = self.factor / step.scale
        if step.targets is None or not batch["n divided"]:
            return factor
        n = n_counted(batch["targets"], step.targets.ignored)
        if n and self.are_shares and step.targets.ratio:
            return factor / (step.targets.ratio * n)
        return factor * batch["n divided"] / n if n else factor

    def _whole(self, output: Any, tape: Tape) -> Any:
        """Return an output that has what the loss uses; `output` may be logits alone. Raises NotJudged."""
        assert self.form is not None
        path = self.form.logits
        if not path or not isinstance(output, Tensor):
            return output
        if {reference.path for reference in tape.outputs} != {path}:
            raise NotJudged("the script's loss uses more of the output than the logits")
        return only(output, path)

    # Tokens

    def tokens(self) -> TokenView | None:
        """Return where the batches hold ids and targets; None for a model that does not map ids to logits."""
        form = self.form
        if form is None:
            return None
        has_targets = all(step.targets is not None for step in self.steps)
        return TokenView(
            x=lambda batch: form.ids((batch["args"], batch["kwargs"])).long(),
            y=(lambda batch: batch["targets"].long()) if has_targets else None,
            with_x=self._with_x,
            logits=lambda output: output if isinstance(output, Tensor) else at(output, form.logits),
            shortened=self._shortened if self.plain is not None else None,
        )

    def _with_x(self, batch: Batch, x: Tensor) -> Batch:
        assert self.form is not None
        args, kwargs = self.form.with_ids((batch["args"], batch["kwargs"]), x)
        return {**batch, "args": args, "kwargs": kwargs}

    def _shortened(self, batch: Batch, t: int) -> Batch:
        """Cut every dimension that is as long as a row; the first is that of the rows."""
        assert self.form is not None
        B, T = self.form.ids((batch["args"], batch["kwargs"])).shape
        ends = {T: t, T + self.form.cut: t + self.form.cut}

        def cut(tensor: Tensor) -> Tensor:
            for dim, size in enumerate(tensor.shape):
                if size in ends and not (dim == 0 and size == B):
                    tensor = tensor.narrow(dim, 0, ends[size])
            return tensor.contiguous()

        short = mapped({key: value for key, value in batch.items() if key != "step"}, cut)
        if self.inside and t < T:
            short["targets"] = self._without_last(batch, short["targets"])
        return {**short, "step": batch["step"]}

    def _without_last(self, batch: Batch, targets: Tensor) -> Tensor:
        """Return shortened targets [B, t] as the model counts them: one that shifts labels itself skips the last."""
        step: CapturedStep = batch["step"]
        assert step.targets is not None
        ignored = step.targets.ignored
        if bool((batch["targets"][:, -1] != ignored).any()):
            return targets
        return torch.cat([targets[:, :-1], torch.full_like(targets[:, -1:], ignored)], dim=1)

    # Updates

    def update(self, clip: float | None) -> Callable[[nn.Module, Sequence[Optimizer], Batch], float]:
        """Return the usual update, with the script's gradient clipping."""

        def update(model: nn.Module, optimizers: Sequence[Optimizer], batch: Batch) -> float:
            model.train()

            def gradients() -> Tensor:
                for optimizer in optimizers:
                    optimizer.zero_grad()
                loss = self.loss(model, batch)
                loss.backward()  # type: ignore[no-untyped-call]
                if clip is not None:
                    torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
                return loss.detach()

            loss = gradients()
            for optimizer in optimizers:
                # LBFGS computes the loss several times in one step.
                optimizer.step(gradients) if _needs_closure(optimizer) else optimizer.step()  # type: ignore[arg-type]
            return float(loss)

        return update


def parts_of(capture: Capture, steps: Sequence[CapturedStep], record: LoopRecord, model: nn.Module) -> ScriptParts:
    """Return the program of captured steps, which have the same form. model: has all modules that they call."""
    ratios = [step.targets.ratio for step in steps if step.targets is not None and step.targets.ratio is not None]
    is_plain = len(ratios) == len(steps) and all(abs(r - ratios[0]) <= SAME_RATIO * abs(ratios[0]) for r in ratios)
    reduced = steps[0].targets is not None and steps[0].targets.options.get("reduction", "mean") == "mean"
    plain = steps[0].targets if is_plain and reduced and len(set(_weights_of(steps))) == 1 else None
    tape = steps[0].tape
    modules = _modules(capture, model)
    micro_batches = max((len(update.losses) for update in record.updates[:1]), default=1)
    return ScriptParts(
        modules=modules,
        steps=steps,
        form=steps[0].form,
        plain=plain,
        ratio=ratios[0] if ratios else 1.0,
        factor=_undone_division(steps, ratios[0] if is_plain else None, micro_batches),
        inside=tape is not None and tape.is_output,
        problem=next((step.problem for step in steps if step.problem), ""),
        splits=plain is None and splits_into_rows(steps[0], modules(model)),
        are_shares=are_shares(record),
    )


def replayable(steps: Sequence[CapturedStep], modules: Sequence[nn.Module]) -> Sequence[CapturedStep]:
    """Return the steps, without their tapes if these call torch.autograd.grad in a way that cannot be called again."""
    first = next((step for step in steps if step.tape is not None and step.tape.differentiates), None)
    if first is None or first.tape is None:
        return steps
    training = [part for module in modules for part in module.modules() if part.training]
    for module in modules:
        module.eval()
    try:
        with unchanged_rng(), torch.enable_grad():
            first.tape.replay(modules, first.inputs)
    except Exception as error:  # Whatever the script calls.
        problem = f"it cannot be computed again: {type(error).__name__}: {error}"
        return [replace(step, tape=None, problem=problem) for step in steps]
    finally:
        for part in training:
            part.training = True
    return steps


def _weights_of(steps: Sequence[CapturedStep]) -> list[tuple[int, float]]:
    """Return what distinguishes the options of the loss."""
    return [
        (step.targets.ignored, float(step.targets.options.get("label_smoothing", 0.0)))
        for step in steps
        if step.targets is not None
    ]


def _undone_division(steps: Sequence[CapturedStep], ratio: float | None, micro_batches: int) -> float:
    """Return the number of micro-batches if the script divides each loss by it, else 1."""
    if micro_batches <= 1:
        return 1.0
    if ratio is not None and abs(ratio * micro_batches - 1) < SAME_RATIO:
        return float(micro_batches)
    tape = steps[0].tape
    for entry in [] if tape is None else tape.functions[-3:]:
        numbers = [value for value in (*entry.args, *entry.kwargs.values()) if isinstance(value, int | float)]
        divides = entry.name in ("div", "div_", "__truediv__", "true_divide") and micro_batches in numbers
        multiplies = entry.name in ("mul", "mul_", "__mul__", "__rmul__") and any(
            math.isclose(number * micro_batches, 1.0, rel_tol=1e-6) for number in numbers
        )
        if divides or multiplies:
            return float(micro_batches)
    return 1.0


def _modules(capture: Capture, model: nn.Module) -> Callable[[nn.Module], Sequence[nn.Module]]:
    """Return a function that finds in a copy of the model the modules that the script calls."""
    names = {id(module): name for name, module in model.named_modules(remove_duplicate=False)}
    paths = [names.get(id(module), "") for module in capture.modules]
    reset = capture.states.resetter(model)

    def modules(copied: nn.Module) -> list[nn.Module]:
        reset(copied)  # No trial begins with the state that another batch has left.
        return [copied.get_submodule(path) for path in paths]

    return modules


def _options(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name in ("weight", "ignore_index", "label_smoothing")}


def _needs_closure(optimizer: Optimizer) -> bool:
    return isinstance(optimizer, torch.optim.LBFGS)

"""A script whose steps are traced: recorded, with a fingerprint of everything that one of its steps uses and makes."""

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from tui_lab.core import events as ev
from tui_lab.core.config.script import ScriptConfig
from tui_lab.core.runs.folder import Run
from tui_lab.core.watch.event_writer import Job
from tui_lab.core.watch.model.model_search import parameters_of
from tui_lab.core.watch.optimizer.updates_by_hand import ManualOptimizer
from tui_lab.core.watch.randomness.fingerprints import fingerprint, inputs_in
from tui_lab.core.watch.randomness.trace import Entry, Kind
from tui_lab.core.watch.recorder import Recorder
from tui_lab.core.watch.run_log import RunLog


class TracingRecorder(Recorder):
    """A recorder that also traces. add: gets each entry, in its order. fail: gets what cannot be traced."""

    def __init__(
        self,
        log: RunLog,
        boundary: Callable[[Recorder], None],
        add: Callable[[Entry], None],
        fail: Callable[[str], None],
    ) -> None:
        super().__init__(log, boundary)
        self._add_entry = add
        self._fail = fail
        self._depth = 0
        """Of calls of modules in each other."""
        self._names: dict[int, str] = {}
        """Of parameters and buffers, by their ids."""
        self._kept: list[nn.Module] = []
        """The modules that were called, so that no other object gets an id that has a name."""

    def install(self) -> None:
        """Install all hooks."""
        self.hooks.replace(nn.Module, "__call__", self._module_called)
        self.hooks.install()

    def criterion(self, name: str, output: Tensor, logits: Tensor, targets: Tensor, options: dict[str, Any]) -> None:
        if output.requires_grad:
            self._trace_inputs(f"the targets of {name}", targets)
        super().criterion(name, output, logits, targets, options)

    def backward(self, loss: Tensor) -> None:
        self._trace("loss", "loss", repr(float(loss.detach())))
        super().backward(loss)

    def before_step(self, optimizer: Optimizer) -> None:
        if not isinstance(optimizer, ManualOptimizer):
            gradients = ((p, p.grad) for p in parameters_of([optimizer]) if p.grad is not None)
            self._trace_all("gradient", gradients)
            self._trace_settings(optimizer)
        super().before_step(optimizer)

    def after_step(self, optimizer: Optimizer) -> None:
        self._trace_all("update", ((p, p) for p in parameters_of([optimizer])))
        super().after_step(optimizer)

    def failed(self, hook: str, error: Exception) -> None:
        self._fail(f"{hook}: {error!r}")
        super().failed(hook, error)

    def _module_called(self, original: Callable[..., Any], module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        if self._depth == 0 and torch.is_grad_enabled() and self.hooks.listens():
            self.hooks.call("model call", self._called, module, args, kwargs)
        self._depth += 1
        try:
            return original(module, *args, **kwargs)
        finally:
            self._depth -= 1

    def _called(self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Trace the call of an outermost module, which is the model or a loss."""
        name = type(module).__name__
        if not any(module is known for known in self._kept):
            self._kept.append(module)
            for part, tensor in (*module.named_parameters(), *module.named_buffers()):
                self._names.setdefault(id(tensor), part)
                self._trace("weights", part, fingerprint(tensor))
        numbered = {f"argument {number}": value for number, value in enumerate(args, 1)}
        self._trace_inputs(f"the input of {name},", {**numbered, **kwargs})

    def _trace_inputs(self, name: str, values: Any) -> None:
        for part, tensor in inputs_in(values):
            self._trace("batch", f"{name} {part}".strip(), fingerprint(tensor))

    def _trace_all(self, kind: Kind, tensors: Iterable[tuple[Tensor, Tensor]]) -> None:
        for number, (parameter, tensor) in enumerate(tensors, 1):
            name = self._names.get(id(parameter), f"parameter {number}")
            self._trace(kind, name, fingerprint(tensor))

    def _trace_settings(self, optimizer: Optimizer) -> None:
        """Trace the learning rates and all other settings of an optimizer that are numbers."""
        for number, group in enumerate(optimizer.param_groups, 1):
            for key, value in group.items():
                plain = value.tolist() if isinstance(value, Tensor) else value
                if isinstance(plain, int | float | tuple):
                    self._trace("setting", f"{key} of parameter group {number}", repr(plain))

    def _trace(self, kind: Kind, name: str, value: str) -> None:
        self._add_entry(Entry(self._step, kind, name, value))

    @property
    def _step(self) -> int:
        """The step that is being made. The first one ends with the step of its optimizer, if it is the only one."""
        is_over = self._open is not None and bool(self._open.stepped) and not self.is_stepping
        return self.steps.n_complete + 1 + (is_over and len(self.script.optimizers.present) == 1)


class TracedScript:
    """Traces the first steps of the script of this process. It writes nothing of what a run folder would hold.

    add: gets each entry. fail: gets what could not be traced any more. complete: called after `n_steps` steps.
    """

    def __init__(
        self,
        n_steps: int,
        folder: Path,
        add: Callable[[Entry], None],
        fail: Callable[[str], None],
        complete: Callable[[], None],
    ) -> None:
        self._n_steps = n_steps
        self._complete = complete
        log = RunLog(Run(folder), ScriptConfig(folder=os.getcwd()), self)
        self._recorder = TracingRecorder(log, self._step_ended, add, fail)
        self._recorder.install()
        self._log = log

    def put(self, item: ev.Event | Job) -> None:
        """Take what is recorded: nothing of it is used."""

    def _step_ended(self, recorder: Recorder) -> None:
        recorder.close_step(wait=True)
        if recorder.steps.n_complete - self._log.steps_before >= self._n_steps:
            self._complete()

    def finish(self) -> None:
        """Record the last step of a script that has ended by itself."""
        self._recorder.finish()

"""Measures what holds the memory of a training step: exact bytes of tensors, saved tensors, and peaks.

`measure` is for a process of its own, since it reads the peak of the whole process; `python -m
tui_lab.core.training.memory_worker` is that process.
"""

import re
import resource
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import torch
from torch import Tensor
from torch.optim import Optimizer

from tui_lab.core.config.schema import Config
from tui_lab.core.kernels.device import to_device
from tui_lab.core.kernels.process_tuning import keep_freed_memory
from tui_lab.core.training.setup import TrainSetup, set_up
from tui_lab.core.training.task_factory import build_task
from tui_lab.core.training.trainer import Trainer

N_STEPS = 3


@dataclass(frozen=True)
class Saved:
    """Bytes that autograd keeps of a micro-batch. head: None for a user's model, whose parts are unknown."""

    layers: int
    head: int | None


@dataclass(frozen=True)
class MeasuredMemory:
    """Bytes; the parts as in `Breakdown`. head: None where it is not known apart from the activations.

    step: the most that torch's allocator had given out during a step. process: resident before the model was built.
    peak: the largest resident size of the process in the steps.
    """

    device: str
    weights: int
    gradients: int
    optimizer: int
    activations: int
    head: int | None
    batch: int
    step: int
    process: int
    peak: int


def measure(config: Config) -> MeasuredMemory:
    """Train for a few steps and measure them. Raises what `set_up` raises."""
    keep_freed_memory()
    task = build_task(config)
    process = psutil.Process().memory_info().rss
    setup = set_up(config, task)
    gradients: list[int] = []
    clear = setup.hooks.clear

    def measured_clear(optimizers: Sequence[Optimizer]) -> None:
        gradients.append(tensor_bytes(p.grad for p in setup.model.parameters() if p.grad is not None))
        clear(optimizers)

    trainer = Trainer(replace(setup, hooks=replace(setup.hooks, clear=measured_clear)))
    batch = trainer.loader.batch(0)
    reset_peak()
    for _ in range(N_STEPS):
        trainer.train_step()
    peak = peak_resident()
    trainer.progress = replace(trainer.progress, step=0)  # The first step also measures the update ratio.
    held = tensor_bytes(setup.model.state_dict().values()) + optimizer_state_bytes(setup.optimizers)
    step = _peak_of_step(trainer, setup.device, held)
    saved = saved_bytes(setup)
    return MeasuredMemory(
        device=str(setup.device),
        weights=tensor_bytes(setup.model.state_dict().values()),
        gradients=max(gradients),
        optimizer=optimizer_state_bytes(setup.optimizers),
        activations=saved.layers,
        head=saved.head,
        batch=batch.x.nbytes + batch.y.nbytes,
        step=step,
        process=process,
        peak=peak,
    )


def tensor_bytes(tensors: Iterable[Tensor]) -> int:
    """Return the bytes of tensors, each storage once."""
    return sum({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}.values())


def optimizer_state_bytes(optimizers: Sequence[Optimizer]) -> int:
    """Return the bytes of the tensors in the optimizers' state."""
    states = [state for optimizer in optimizers for state in optimizer.state.values()]
    return tensor_bytes(value for state in states for value in state.values() if isinstance(value, Tensor))


class _SavedTensors:
    """Hooks that note the storages that autograd keeps, the first time each is kept."""

    def __init__(self, excluded: Iterable[Tensor]) -> None:
        self._excluded = {t.untyped_storage().data_ptr() for t in excluded}
        self._kept: list[Tensor] = []  # A freed storage's address may be that of the next one.
        self._sizes: dict[int, tuple[bool, int]] = {}
        self.is_head = False

    def pack(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self._excluded:
            self._sizes.setdefault(storage.data_ptr(), (self.is_head, storage.nbytes()))
        self._kept.append(tensor.detach())
        return self._kept[-1]

    def bytes_of(self, *, head: bool) -> int:
        return sum(size for of_head, size in self._sizes.values() if of_head is head)


def saved_bytes(setup: TrainSetup) -> Saved:
    """Return what autograd keeps of the forward pass of one micro-batch, without weights and batch."""
    model = setup.model
    arrays = setup.loader.batch(0)
    x, y = (to_device(array, setup.device) for array in (arrays.x, arrays.y))
    rows = len(x.tensor_split(min(setup.progress.config.train.accumulate, len(x)))[0])
    saved = _SavedTensors((*model.state_dict().values(), x, y))
    hidden = getattr(model, "hidden", None)

    def watched_hidden(ids: Tensor) -> Tensor:
        assert hidden is not None
        output: Tensor = hidden(ids)
        saved.is_head = True
        return output

    if hidden is not None:
        model.__dict__["hidden"] = watched_hidden
    try:
        setup.hooks.set_mode(model)
        with torch.autograd.graph.saved_tensors_hooks(saved.pack, lambda tensor: tensor):
            setup.hooks.loss_sum(model, x[:rows], y[:rows])
    finally:
        model.__dict__.pop("hidden", None)
    return Saved(saved.bytes_of(head=False), None if hidden is None else saved.bytes_of(head=True))


def _peak_of_step(trainer: Trainer, device: torch.device, held: int) -> int:
    """Return the most bytes of tensors at once during a step; held: those before it."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        trainer.train_step()
        torch.cuda.synchronize()
        return int(torch.cuda.max_memory_allocated())
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        trainer.train_step()
    assert profile.profiler is not None and profile.profiler.kineto_results is not None
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    events.sort(key=lambda event: event.start_ns())
    now = most = 0
    for event in events:
        now += event.nbytes()
        most = max(most, now)
    return held + most


def reset_peak() -> None:
    """Let the kernel's record of the largest resident size begin again, where it can (Linux)."""
    try:
        Path("/proc/self/clear_refs").write_text("5", "ascii")
    except OSError:
        return


def peak_resident() -> int:
    """Return the largest resident size of this process since `reset_peak`, or since its start."""
    try:
        peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text("ascii"))
    except OSError:
        peak = None
    if peak:
        return int(peak[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit

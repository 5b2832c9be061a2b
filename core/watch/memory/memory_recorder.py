"""Follows the memory of a script's steps: what its tensors hold at a few moments of each."""

import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.optim import Optimizer

from tui_lab.core.training.memory_measure import peak_resident
from tui_lab.core.watch.memory.kept_tensors import KeptTensors
from tui_lab.core.watch.memory.live_tensors import capacity_of, dtype_name, sizes_of
from tui_lab.core.watch.memory.memory_hooks import MemoryHooks
from tui_lab.core.watch.memory.modules_at_work import Call
from tui_lab.core.watch.memory.most_at_once import CudaMeter, Meter, NoMeter, meter_of
from tui_lab.core.watch.memory.script_tensors import ScriptTensors
from tui_lab.core.watch.memory.step_account import Batch, kept_now, others_now
from tui_lab.core.watch.memory.step_growth import StepGrowth
from tui_lab.core.watch.memory.step_memory import EarlyFate, Kept, LossInput, OtherPart, Phase, StepMemory
from tui_lab.core.watch.optimizer.updates_by_hand import ManualOptimizer, UpdatesByHand
from tui_lab.core.watch.steps.step_cycle import StepCycle

N_WARM_UP = 3
"""Steps whose peak is not measured: two show the peak of the process, the third one prepares measuring."""


class OpenStep:
    """What is known of the step that has begun."""

    def __init__(self) -> None:
        self.batch = Batch()
        self.kept: Kept | None = None
        self.rows: int | None = None
        self.batch_bytes: int | None = None
        self.logits: LossInput | None = None
        self.gradients: int | None = None
        self.early_gradients: int | None = None
        """None before the first forward pass."""
        self.early_fate: EarlyFate = ""
        self.others: tuple[OtherPart, ...] | None = None
        self.has_call = False
        """Whether the arguments of a module were seen, which are a part of the batch."""
        self.held: int | None = None
        self.micro_batches = 0
        self.optimizers: dict[str, None] = {}
        self.live_logits: dict[int, tuple[StorageWeakRef, int]] = {}
        """The logits of this forward pass by the address of their storage, and their bytes."""


class MemoryRecorder:
    """Listens to the hooks. step_ended: called after each step with its account.

    Moments: the first saved tensor of a forward pass, the beginning of a backward pass, and the optimizers' steps.
    """

    def __init__(self, step_ended: Callable[[StepMemory], None]) -> None:
        self.hooks = MemoryHooks(self)
        self.kept = KeptTensors(self._first_saved)
        self.growth = StepGrowth()
        self.capacity: int | None = None
        """Bytes of the memory of the device, or of the machine."""
        self.errors: list[str] = []
        """What went wrong in the hooks, which is a defect of ours."""
        self.peak: int | None = None
        """The resident peak of the process until its third backward pass, where what measures begins to need memory."""
        self._by_hand = UpdatesByHand()
        self._tensors = ScriptTensors(self.kept)
        self._cycle = StepCycle()
        self._step = OpenStep()
        self._n_steps = 0
        self._meter: Meter = NoMeter()
        self._step_ended = step_ended

    def install(self) -> None:
        """Follow everything from now on."""
        self.hooks.install()
        self.hooks.around_transforms(self.kept)
        self.kept.install()

    # What the hooks see

    def loss_begins(self) -> None:
        """A loss function is called."""
        self.kept.in_loss = True

    def loss_ended(self) -> None:
        self.kept.in_loss = False

    def criterion(self, name: str, output: Tensor, logits: Tensor, targets: Tensor, options: dict[str, Any]) -> None:
        if not output.requires_grad:
            return
        step = self._step
        if not targets.requires_grad:
            step.batch.targets(targets)
        for address, n_bytes in sizes_of([logits]).items() if logits.grad_fn is not None else ():
            step.live_logits[address] = (StorageWeakRef(logits.untyped_storage()), n_bytes)  # type: ignore[no-untyped-call]
            if step.logits is None or logits.nbytes > step.logits.bytes:
                step.logits = LossInput(tuple(logits.shape), dtype_name(logits.dtype), logits.nbytes)

    def backward(self, loss: Tensor) -> None:
        """Gradients begin to be computed."""
        self._by_hand.before_backward(loss, self.before_step, self.after_step)
        self.gradients_begin()

    def gradients_begin(self) -> None:
        """A backward pass begins, or torch.autograd.grad."""
        if self._n_steps == N_WARM_UP - 1 and isinstance(self._meter, NoMeter):
            self._begin_to_measure()
        self._look_at_kept()
        self._meter.fixed(self._fixed())
        self._meter.enter("backward")

    def gradients_ended(self) -> None:
        """A backward pass has ended."""
        self._meter.enter("update")
        self._meter.fixed(self._fixed())
        self._step.gradients = max(self._step.gradients or 0, self._tensors.n_gradient_bytes)
        self._step.micro_batches += 1
        self._step.batch = Batch()
        self._step.live_logits.clear()
        self.kept.begin_pass()
        if not self._by_hand.is_off:
            self._by_hand.after_backward()

    def clipped(self, norm: Tensor, max_norm: float) -> None:
        if not self._by_hand.is_off:
            self._by_hand.look_at_gradients()

    def scaled(self, loss: Tensor, scaled_loss: Tensor, scale: Tensor | None) -> None: ...

    def skipped(self) -> None: ...

    def waited(self, seconds: float) -> None: ...

    def before_step(self, optimizer: Optimizer) -> None:
        if not isinstance(optimizer, ManualOptimizer) and not self._by_hand.is_off:
            self._by_hand.turn_off()
        if self._cycle.before(optimizer):
            self._end_step(has_continued=True)
        self._tensors.optimizers.add(optimizer)
        self._step.optimizers[type(optimizer).__name__] = None
        self._meter.update_begins()

    def after_step(self, optimizer: Optimizer) -> None:
        self._meter.update_ended()
        self._step.gradients = max(self._step.gradients or 0, self._tensors.n_gradient_bytes)
        if self._cycle.after(optimizer):
            self._end_step(has_continued=isinstance(optimizer, ManualOptimizer))

    def failed(self, hook: str, error: Exception) -> None:
        self.errors.append(f"{hook}: {error!r}")

    # The account

    def _first_saved(self, call: Call | None) -> None:
        """A forward pass saves its first tensor, or the first one of a further model."""
        self.hooks.call("first_saved", self._forward_begins, call)

    def _forward_begins(self, call: Call | None) -> None:
        step = self._step
        if step.early_gradients is None:
            step.early_gradients = self._tensors.n_gradient_bytes
            self._meter.enter("forward")
        elif not step.batch.sizes:  # Of a further micro-batch.
            self._meter.enter("forward")
        if call is not None:
            step.has_call = True
            step.batch.called(call.args, call.kwargs, call.module)

    def _look_at_kept(self) -> None:
        """Take the account of this moment if more is kept than before in this step."""
        step = self._step
        if step.early_gradients and not step.micro_batches and not step.early_fate:
            step.early_fate = self._tensors.fate_of_gradients()
        excluded = {**self._tensors.known, **step.batch.sizes}
        logits = {address: n for address, (ref, n) in step.live_logits.items() if not ref.expired()}  # type: ignore[no-untyped-call]
        kept = kept_now(self.kept, excluded, logits, step.batch.rows)
        if step.kept is not None and kept.activations + kept.loss <= step.kept.activations + step.kept.loss:
            return
        step.kept = kept
        step.rows = step.batch.rows
        step.batch_bytes = sum(step.batch.sizes.values()) if step.has_call else None
        if self._n_steps >= N_WARM_UP:
            known = {*excluded, *logits, *self.kept.storages}
            step.others = others_now(self._tensors.device, known)

    def _fixed(self) -> set[int]:
        """Return where gradients and copies of weights are, which do not depend on the rows of the batch."""
        copies = {address for address, storage in list(self.kept.storages.items()) if storage.is_weight}
        return copies | self._tensors.gradients.keys()

    def _account(self, most: dict[Phase, int] | None) -> StepMemory:
        """Return what is known of the step that has begun."""
        step = self._step
        tensors = self._tensors
        weights = sum(sizes_of(tensors.weights).values()) or None
        is_seen = bool(self.kept.n_saved)
        return StepMemory(
            n=self._n_steps + 1,
            device=tensors.device,
            weights=weights,
            frozen=None if weights is None else sum(tensors.frozen.values()),
            buffers=sum(tensors.buffers.values()) if is_seen else None,
            gradients=step.gradients,
            early_gradients=step.early_gradients or 0,
            early_fate=step.early_fate,
            optimizer=sum(tensors.state.values()),
            optimizers=tuple(name for name in step.optimizers if name != ManualOptimizer.__name__),
            kept=step.kept if is_seen else None,
            logits=step.logits,
            batch=step.batch_bytes,
            rows=step.rows,
            micro_batches=step.micro_batches,
            others=step.others,
            held=step.held,
            most=most,
            reserved=self._meter.reserved if most else None,
            moments=self._meter.moments if most else None,
        )

    def failed_account(self, error: BaseException) -> StepMemory | None:
        """Return what is known of the step in which memory ran out; None if the script ended for another reason."""
        if not is_out_of_memory(error) or not self.kept.n_saved:
            return None
        self._look_at_kept()
        if self._n_steps >= N_WARM_UP:
            return self._account(self._meter.end())
        # CUDA's allocator has counted from the beginning.
        return self._account(CudaMeter().end() if self._tensors.device == "cuda" else None)

    def finish(self) -> None:
        """Follow nothing any more. torch crashes if the process ends while its profiler is at work."""
        self._meter.end()
        self.hooks.remove()
        self.kept.remove()

    def _end_step(self, *, has_continued: bool) -> None:
        """A step has ended. has_continued: the forward pass of the next one was made before that was known."""
        most = self._meter.end()
        account = self._account(most if self._n_steps >= N_WARM_UP else None)
        self._n_steps += 1
        before = self._step
        self._step = OpenStep()
        if has_continued:
            self._step.batch = before.batch
            self._step.logits = before.logits
            self._step.live_logits = before.live_logits
            if self._n_steps == 1:  # Its backward pass, too, if this is the end of the first step.
                self._step.kept = before.kept
                self._step.rows = before.rows
                self._step.batch_bytes = before.batch_bytes
        else:
            self.kept.begin_pass()
        if self._n_steps >= N_WARM_UP:
            self.capacity = capacity_of(account.device)
            self._measure_next(account.device)
        self._step_ended(account)

    def _begin_to_measure(self) -> None:
        """Follow allocations from now on: torch's profiler sees that memory is freed only if it saw the allocation.

        What is found in this step is not used: it ends with nothing that was there before and that a step frees.
        """
        self.peak = peak_resident()
        self._meter = meter_of(self._tensors.device)
        self._meter.begin(0, {})

    def _measure_next(self, device: str) -> None:
        """Look at what is held between two steps, and measure the most of the next one."""
        tensors, held = self._tensors.held()
        self.growth.look(tensors, held, sys._getframe(1))
        self._step.held = held
        self._meter = meter_of(device)
        self._meter.begin(held, self._tensors.gradients)


def is_out_of_memory(error: BaseException | None) -> bool:
    """Return whether a script ended since a device or the machine had no memory left."""
    if error is None:
        return False
    text = str(error)
    is_of_cpu = "DefaultCPUAllocator" in text and "memory" in text
    return is_of_cpu or isinstance(error, MemoryError | torch.OutOfMemoryError)

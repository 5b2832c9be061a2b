"""Follows the steps of a script whose speed is measured."""

import time
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from tui_lab.core.watch.model.model_search import ModelFinder, inputs_of
from tui_lab.core.watch.optimizer.updates_by_hand import ManualOptimizer, UpdatesByHand
from tui_lab.core.watch.optimizer.weak_optimizers import WeakOptimizers
from tui_lab.core.watch.script_hooks import ScriptHooks
from tui_lab.core.watch.speed.stages import Plan, Size, Stages
from tui_lab.core.watch.steps.step_cycle import StepCycle


class SpeedHooks(ScriptHooks):
    """Also sees how many workers a DataLoader has."""

    def __init__(self, recorder: "SpeedRecorder") -> None:
        super().__init__(recorder)
        self._stages = recorder.stages

    def _next_batch(self, original: Callable[..., Any], iterator: Any) -> Any:
        if self.listens():
            self._stages.n_workers = max(self._stages.n_workers or 0, int(iterator._num_workers))
        return super()._next_batch(original, iterator)


class SpeedRecorder:
    """Listens to the hooks. plan, write, end: as for `Stages`. clock: seconds."""

    def __init__(
        self,
        plan: Plan,
        write: Callable[..., None],
        end: Callable[[], None],
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.stages = Stages(plan, write, end, clock)
        self._hooks = SpeedHooks(self)
        self._finder = ModelFinder(self._hooks)
        self._write = write
        self._end = end
        self._by_hand = UpdatesByHand()
        self._cycle = StepCycle()
        self._size = Size()
        self._has_evaluated = False
        self._is_stepping = False
        self._optimizers = WeakOptimizers()
        """Those that have stepped, also what stands for updates by hand."""

    def install(self) -> None:
        """Follow everything from now on."""
        self._hooks.install()

    def finish(self) -> None:
        """Follow nothing any more: the script has ended."""
        self.stages.finish()
        self._hooks.remove()
        self._finder.remove()

    # What the hooks see

    def training_call(self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        self.stages.training()
        self.stages.phases.enter("forward")
        if self.stages.seen.model is not module:
            self.stages.seen.model = module
        inputs = inputs_of(args, kwargs)
        if inputs.x is not None:
            self._size.rows = int(inputs.x.shape[0]) if inputs.x.dim() else 1
            self._size.n_samples += self._size.rows
            self._size.n_tokens += inputs.x.numel() if inputs.has_tokens else 0

    def evaluation_call(self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        self._has_evaluated = True
        self.stages.evaluating()

    def model_output(self, output: Any) -> None: ...

    def criterion(
        self, name: str, output: Tensor, logits: Tensor, targets: Tensor, options: dict[str, Any]
    ) -> None: ...

    def backward(self, loss: Tensor) -> None:
        self._by_hand.before_backward(loss, self.before_step, self.after_step)
        self.stages.phases.enter("backward")

    def after_backward(self) -> None:
        if not self._by_hand.is_off:
            self._by_hand.after_backward()
        self._enter_rest()

    def before_clip(self) -> None:
        self.stages.phases.enter("update")

    def clipped(self, norm: Tensor, max_norm: float) -> None:
        if not self._by_hand.is_off:
            self._by_hand.look_at_gradients()
        self._enter_rest()

    def scaled(self, loss: Tensor, scaled_loss: Tensor, scale: Tensor | None) -> None:
        self.stages.seen.has_scaler = True

    def skipped(self) -> None: ...

    def waited(self, seconds: float) -> None:
        self.stages.phases.waited(seconds)

    def before_step(self, optimizer: Optimizer) -> None:
        is_by_hand = isinstance(optimizer, ManualOptimizer)
        if not is_by_hand and not self._by_hand.is_off:
            self._by_hand.turn_off()
        if self._cycle.before(optimizer):
            self._end_step()
        if self._optimizers.add(optimizer):
            self._training_begins(optimizer, is_by_hand=is_by_hand)
        self._is_stepping = True
        self.stages.phases.enter("update")

    def _training_begins(self, optimizer: Optimizer, *, is_by_hand: bool) -> None:
        """A new optimizer steps, of the training that is measured, or of another one if it comes after the warm-up."""
        is_another = self.stages.restart()
        if is_another:
            self._optimizers.clear()
            self._optimizers.add(optimizer)
        if is_another or self._optimizers.present == [optimizer]:
            self._finder.search([optimizer])
        if not is_by_hand:
            self.stages.seen.optimizers.append(optimizer)

    def _enter_rest(self) -> None:
        """Back in the loop, or in the step of an optimizer that has called for the loss itself."""
        self.stages.phases.enter("update" if self._is_stepping else "loop")

    def after_step(self, optimizer: Optimizer) -> None:
        self._is_stepping = False
        self.stages.phases.enter("loop")
        if self._cycle.after(optimizer):
            self._end_step()

    def failed(self, hook: str, error: Exception) -> None:
        what = f"{hook}: {error!r}"
        if hook not in ("before_step", "after_step"):
            self._write(error=what)
            return
        # No further step would be noticed, so the script would run to its end.
        self._write(ended={"error": what, "lacks": None, "file": ""})
        self._end()

    def _end_step(self) -> None:
        size = self._size
        has_evaluated = self._has_evaluated
        self._size = Size()
        self._has_evaluated = False
        self.stages.step_ended(size, has_evaluated=has_evaluated)

"""Records the losses that the Trainer of transformers reports of its evaluations."""

import contextlib
import sys
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from tui_lab.core.watch.evaluation.evaluation_recorder import EvaluationRecorder
from tui_lab.core.watch.evaluation.trainer_losses import losses_in
from tui_lab.core.watch.hooks import TorchHooks
from tui_lab.core.watch.steps.step_log import StepLog
from tui_lab.core.watch.watched_script import WatchedScript

MODULE = "transformers.trainer_callback"
"""Its CallbackHandler gets the events of each Trainer."""


class TrainerHooks:
    """Hooks two methods of the library, if the script has imported it: it must not be imported on its behalf.

    end_step: records the open step. Removed with the other hooks.
    """

    def __init__(
        self,
        hooks: TorchHooks,
        script: WatchedScript,
        evaluations: EvaluationRecorder,
        steps: StepLog,
        end_step: Callable[[], None],
    ) -> None:
        self._hooks = hooks
        self._script = script
        self._evaluations = evaluations
        self._steps = steps
        self._end_step = end_step
        self._is_installed = False

    def look(self) -> None:
        """Install the hooks, unless they are, or the library is not imported yet."""
        if self._is_installed:
            return
        handler = getattr(sys.modules.get(MODULE), "CallbackHandler", None)
        if handler is not None and {"on_evaluate", "on_predict"} <= vars(handler).keys():
            self._is_installed = True
            self._hooks.replace(handler, "on_evaluate", self._on_evaluate)
            self._hooks.replace(handler, "on_predict", self._on_predict)

    def _on_evaluate(
        self, original: Callable[..., Any], handler: Any, args: Any, state: Any, control: Any, metrics: Any, **more: Any
    ) -> Any:
        control = original(handler, args, state, control, metrics, **more)
        if self._hooks.listens():
            examples = 0
            with contextlib.suppress(Exception):  # A data set may have no length.
                examples = len(handler.eval_dataloader.dataset)
            self._hooks.call("trainer_evaluated", self._evaluated, handler.model, metrics, examples)
        return control

    def _on_predict(self, original: Callable[..., Any], handler: Any, *args: Any, **kwargs: Any) -> Any:
        control = original(handler, *args, **kwargs)
        if self._hooks.listens():
            self._hooks.call("trainer_predicted", self._predicted, handler.model)
        return control

    def _evaluated(self, model: nn.Module, metrics: Mapping[str, Any], examples: int) -> None:
        """What the Trainer reports counts, and not the losses that were seen meanwhile."""
        losses = losses_in(metrics, examples)
        if losses is not None and self._is_watched(model):
            self._end_step()
            self._evaluations.reported(self._steps.n_complete, losses)
            self._steps.record(wait=True)

    def _predicted(self, model: nn.Module) -> None:
        """The losses of a prediction are not those of a validation."""
        if self._is_watched(model):
            self._evaluations.discard()

    def _is_watched(self, model: nn.Module) -> bool:
        """Return whether a Trainer's model is the one that is trained; before the first step it is not known yet."""
        return not self._script.optimizers.present or self._script.is_trained(model)

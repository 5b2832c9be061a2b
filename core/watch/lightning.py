"""Watches the training of a Lightning Trainer: `Trainer(…, callbacks=[LightningCallback()])`."""

from typing import Any

from torch.optim import Optimizer

from tui_lab.core.watch.api import WatchedRun, watch
from tui_lab.util.extras import require

require("lightning", extra="lightning", feature="LightningCallback")

from lightning.pytorch.callbacks import Callback  # noqa: E402

ARGUMENTS = ("max_epochs", "accumulate_grad_batches", "gradient_clip_val", "precision")
"""Arguments of the Trainer that are settings of the run."""


class LightningCallback(Callback):  # type: ignore[misc, unused-ignore]
    """Records and steers the training. Only the first of several processes records. name: of the run folder.

    It joins a run that is open and has not trained yet, or trains the same optimizers; it ends any other one.
    """

    def __init__(self, name: str | None = None) -> None:
        self._name = name
        self._run: WatchedRun | None = None

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        if trainer.is_global_zero:
            config = {name: getattr(trainer, name) for name in ARGUMENTS} | dict(pl_module.hparams)
            # Not the model: Lightning calls the modules inside it. DeepSpeed's optimizers are none of torch's.
            optimizers = [optimizer for optimizer in trainer.optimizers if isinstance(optimizer, Optimizer)]
            steps = int(trainer.estimated_stepping_batches)
            self._run = watch(optimizer=optimizers, config=config, name=self._name, steps=steps)

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        if self._run is not None and not trainer.sanity_checking:
            self._run.log(**{name: float(value) for name, value in trainer.callback_metrics.items()})

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        if self._run is not None and self._run.owns:
            self._run.close()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        if self._run is not None and self._run.owns:
            self._run.__exit__(type(exception), exception, None)

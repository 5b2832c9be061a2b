"""Watches the training of a transformers Trainer: `Trainer(…, callbacks=[HuggingFaceCallback()])`."""

from typing import Any

from tui_lab.core.watch.api import WatchedRun, watch
from tui_lab.util.extras import require

require("transformers", extra="huggingface", feature="HuggingFaceCallback")

from transformers import TrainerCallback  # noqa: E402

RECORDED = ("loss", "grad_norm", "learning_rate", "epoch")
"""What the Trainer logs and each step of the run has already."""


class HuggingFaceCallback(TrainerCallback):  # type: ignore[misc, unused-ignore]
    """Records and steers the training. Only the first of several processes records. name: of the run folder."""

    def __init__(self, name: str | None = None) -> None:
        self._name = name
        self._run: WatchedRun | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            model = kwargs["model"]
            tokenizer = kwargs.get("processing_class")
            self._run = watch(model, tokenizer=tokenizer, config=args, name=self._name, steps=state.max_steps)

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        values = {name: value for name, value in kwargs["logs"].items() if name not in RECORDED}
        if self._run is not None and values:
            self._run.log(**values)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self._run is not None and self._run.owns:
            self._run.close()

"""The run of a script as its recorder writes it: config, tokenizer, events, and the latest batch."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from tui_lab.core import events as ev
from tui_lab.core.config.script import ScriptConfig
from tui_lab.core.runs.folder import Run, config_text
from tui_lab.core.runs.run_files import CONFIG, TOKENIZER
from tui_lab.core.training.loss_figures import perplexity, running_mean
from tui_lab.core.watch.batch.recorded_batch import RecordedBatch, RowHistory, write_batch
from tui_lab.core.watch.evaluation.evaluations import Evaluation
from tui_lab.core.watch.event_writer import Job
from tui_lab.core.watch.steps.open_step import OpenStep, StepValues
from tui_lab.core.watch.tokenizer.script_tokenizer import ScriptTokenizer
from tui_lab.core.watch.variables.script_config import Discovered
from tui_lab.util import files
from tui_lab.util.strict_json import dumps


class Writer(Protocol):
    """What RunLog writes to: an EventWriter, unless nothing is to be recorded."""

    def put(self, item: ev.Event | Job) -> None: ...


class RunLog:
    """Makes the events and passes them to the writer. n_steps: the number of the last recorded step.

    steps_before: how many the optimizer had made before; the first recorded step has the number after it. on_start:
    called at the first step, when nearly all modules are imported.
    """

    def __init__(
        self, run: Run, config: ScriptConfig, writer: Writer, on_start: Callable[[], None] = lambda: None
    ) -> None:
        self.run = run
        self.config = config
        self.n_steps = 0
        self.steps_before = 0
        self.is_started = False
        self.tokenizer: ScriptTokenizer | None = None
        self.n_vocab = 0
        """The number of logits of a model that takes tokens, or else of tokens of its tokenizer; 0: unknown."""
        self._writer = writer
        self._on_start = on_start
        self._loss_ema: float | None = None
        self._n_counted = 0
        self._best_val_loss = math.inf
        self._since_best = 0
        self._warned: set[str] = set()

    @property
    def n_recorded(self) -> int:
        """The steps recorded so far."""
        return self.n_steps - self.steps_before

    def resume_after(self, steps: int) -> None:
        """Number the steps from `steps` + 1 on. Only before the first one."""
        self.n_steps = steps
        self.steps_before = steps

    def start(
        self,
        discovered: Discovered,
        namespaces: Sequence[Mapping[str, Any]],
        tokenizer: ScriptTokenizer | None,
        settings: Mapping[str, Any] | None,
    ) -> None:
        """Write what is known of the script, before the first event. tokenizer, settings: as the user gave them."""
        self.is_started = True
        self.config = _with_total(discovered.config(self.config, namespaces, settings), self.steps_before)
        self.tokenizer = tokenizer or discovered.find_tokenizer(namespaces)
        n_tokens = self.tokenizer.n_vocab if self.tokenizer is not None and discovered.has_tokens else 0
        self.n_vocab = discovered.n_vocab or n_tokens
        state = discovered.tokenizer_state(self.tokenizer)
        path = self.run.path
        text = config_text(self.config)

        def write() -> None:
            files.write_text(path / TOKENIZER, dumps(state))
            files.write_text(path / CONFIG, text)

        self._writer.put(write)
        started = discovered.started(self.config)
        n_before = self.steps_before
        self._writer.put(replace(started, step=n_before, resumed=n_before > 0, n_vocab=self.n_vocab))
        self._on_start()

    def step_done(self, step: OpenStep, values: StepValues) -> None:
        """Record a step."""
        extra = step.extra | {f"loss/{i + 1}": loss for i, loss in enumerate(values.losses) if i}
        if "loss_scale" in values.scalars:
            extra["loss_scale"] = values.scalars["loss_scale"]
        loss = values.losses[0] if values.losses else math.nan
        is_token = self.config.train.unit == "tokens"
        has_data_time = step.data_seconds > 0 and step.seconds > 0
        self.step(
            loss=loss,
            lr=step.lrs[0] if step.lrs else 0.0,
            n_counted=step.n_tokens if is_token else step.n_samples,
            seconds=step.seconds,
            grad_norm=values.grad_norm,
            update_ratio=values.scalars.get("update_ratio"),
            dead_units=values.scalars.get("dead_units"),
            data_seconds=step.data_seconds if has_data_time else None,
            extra=extra or None,
            by_layer=values.by_layer,
            epoch=step.epoch,
        )

    def step(self, *, loss: float, lr: float, n_counted: int, seconds: float, epoch: int = 0, **measured: Any) -> None:
        """Record a step with these values. n_counted: its tokens or samples; measured: the other fields of StepDone."""
        self._loss_ema = running_mean(self._loss_ema, loss)
        self._n_counted += n_counted
        self.n_steps += 1
        event = ev.StepDone(
            step=self.n_steps,
            loss=loss,
            loss_ema=self._loss_ema,
            lr=lr,
            epoch=epoch,
            tokens=self._n_counted,
            seconds=seconds,
            tokens_per_s=n_counted / seconds if seconds > 0 else 0.0,
            **measured,
        )
        self.put(event)

    def batch(self, batch: RecordedBatch, history: RowHistory | None) -> None:
        """Replace the recorded batch."""
        complete = replace(batch, history=history)
        self._writer.put(lambda: write_batch(self.run.path, complete))

    def evaluation(self, evaluation: Evaluation) -> None:
        """Record the losses of an evaluation."""
        losses = evaluation.losses
        others = {f"loss {split}": loss for split, loss in losses.items() if split and split != evaluation.validation}
        if others:
            self.put(ev.Logged(step=self.n_steps, values=others))
        if evaluation.warning:
            self._warn_once(evaluation.warning, evaluation.warning)
        val_loss = evaluation.val_loss
        if val_loss is None:
            if evaluation.reason:
                self._warn_of_no_validation(evaluation.reason)
            return
        if not evaluation.is_mean_known:
            self._warn_of_mean()
        nats = val_loss if evaluation.per_target is None else evaluation.per_target
        has_perplexity = evaluation.is_cross_entropy and not math.isnan(nats)
        self.validation(val_loss, perplexity(nats) if has_perplexity else None, evaluation.examples)

    def _warn_of_no_validation(self, reason: str) -> None:
        """Say once why an evaluation gave no validation loss."""
        self._warn_once(
            "no validation",
            f"no validation loss is recorded: {reason}. To record it, name it: split = 'val', val_loader, or "
            "run.log(val_loss=…)",
        )

    def _warn_of_mean(self) -> None:
        """Say once that the validation loss may not be the one that the script prints."""
        self._warn_once(
            "mean",
            "the validation loss is the mean over batches. They differ in size, and no variable shows how the "
            "script weights them; run.log(val_loss=…) records the script's own",
        )

    def _warn_once(self, subject: str, message: str) -> None:
        if subject not in self._warned:
            self._warned.add(subject)
            self.warn(message)

    def validation(self, val_loss: float, perplexity: float | None = None, examples: int = 0) -> None:
        """Record a validation loss of the weights after the last recorded step, in nats per target."""
        is_best = val_loss < self._best_val_loss
        self._best_val_loss = min(val_loss, self._best_val_loss)
        self._since_best = 0 if is_best else self._since_best + 1
        event = ev.Evaluated(
            step=self.n_steps,
            val_loss=val_loss,
            exact_match=None,
            perplexity=perplexity,
            examples=examples,
            best=is_best,
            since_best=self._since_best,
        )
        self.put(event)

    def warn(self, message: str) -> None:
        """Record something that the user should know."""
        self.put(ev.Warned(step=self.n_steps, message=message))

    def put(self, event: ev.Event) -> None:
        """Record any event."""
        self._writer.put(event)


def _with_total(config: ScriptConfig, n_before: int) -> ScriptConfig:
    """Return the settings.

    A total that a resumed script has reached already counts only the steps that it makes now.
    """
    total = config.train.steps
    if not 0 < total <= n_before:
        return config
    return config.model_copy(update={"train": config.train.model_copy(update={"steps": n_before + total})})

"""`tui_lab.watch`: record the training loop of the calling code, with as much or as little as it passes."""

import contextlib
import os
import time
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from torch import Tensor, nn
from torch.optim import Optimizer

from tui_lab.core import events as ev
from tui_lab.core.runs import folder as runs
from tui_lab.core.watch.code_run import CodeRun, other_training
from tui_lab.core.watch.model.model_search import Inputs
from tui_lab.core.watch.process import script_process
from tui_lab.core.watch.ranks.following_rank import FollowingRank
from tui_lab.core.watch.recording import Recording
from tui_lab.core.watch.tokenizer.find_tokenizer import from_object
from tui_lab.core.watch.watched_script import Given
from tui_lab.util.errors import ConfigError
from tui_lab.util.plural import counted

MAX_TEXT = 10_000
"""Characters of a logged text."""
VALIDATION_NAMES = ("val_loss", "val/loss", "eval_loss", "eval/loss", "valid_loss", "validation_loss")
ONE_RUN = "under `tui-lab watch`, a process has one run, which now records this training"


class WatchedRun:
    """The run that records this process; a context manager.

    path: its folder; None in the processes of torchrun that do not record: all but the first.

    The hooks record every optimizer step on their own; `step` is for loops without a torch optimizer.
    """

    def __init__(self, recording: Recording | None, *, owns: bool) -> None:
        """owns: whether the call of `watch` that returns this object began the run."""
        self.owns = owns
        self._recording = recording
        self._code_run = CodeRun.of(recording)
        """None where the code does not decide when the recording ends, as under `tui-lab watch`."""
        self._stepped_at = time.perf_counter()

    @property
    def path(self) -> Path | None:
        return None if self._recording is None else self._recording.run.path

    def __repr__(self) -> str:
        if self._recording is None:
            return "<WatchedRun: this process is not recorded>"
        n_steps = self._recording.n_steps
        return f"<WatchedRun {self.path}: {self._recording.state}, {counted(n_steps, 'step')}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._code_run is not None:
            self._code_run.recording.end(error)

    def log(self, **values: Any) -> None:
        """Record metrics (numbers, or tensors of one number) and samples (text) of the present step.

        val_loss is a validation loss, in nats per target. Raises ConfigError for a value of another type; warns if the
        run has ended.
        """
        if self._recording is None or not self._can_record(self._recording):
            return
        recorder = self._recording.recorder
        log = recorder.log
        numbers = {name: _number(name, value) for name, value in values.items() if not isinstance(value, str)}
        texts = {name: _shortened(value) for name, value in values.items() if isinstance(value, str)}
        recorder.end_step()
        for name in VALIDATION_NAMES:
            if name in numbers:
                recorder.validation(numbers.pop(name))
        if numbers or texts:
            log.put(ev.Logged(step=log.n_steps, values=numbers, texts=texts))

    def step(
        self,
        *,
        loss: float | Tensor,
        lr: float = 0.0,
        x: Tensor | None = None,
        y: Tensor | None = None,
        grad_norm: float | Tensor | None = None,
    ) -> None:
        """Record one step of a loop that uses no torch optimizer. x, y: the batch, [B, T] each.

        Raises StopRequested, a KeyboardInterrupt, if the user asked to stop; waits while the run is paused. Warns if
        the run has ended.
        """
        if self._recording is None or not self._can_record(self._recording):
            return
        recorder = self._recording.recorder
        recorder.by_hand.turn_off()
        batches = recorder.batches
        if x is not None:
            batches.forward(Inputs(x, y, has_named_y=True))
        recorder.script.batch_seen(Inputs(x, y))
        recorder.steps.start(lr)
        hashes, batch = batches.end_step(recorder.log.n_steps, 1)
        if hashes is not None:
            batches.add_rows(recorder.log.n_steps, hashes.tolist())
        if batch is not None:
            recorder.log.batch(batch, None if hashes is None else batches.history())
        now = time.perf_counter()
        recorder.log.step(
            loss=_number("loss", loss),
            lr=lr,
            n_counted=0 if x is None else x.numel(),
            seconds=now - self._stepped_at,
            grad_norm=None if grad_norm is None else _number("grad_norm", grad_norm),
        )
        self._recording.boundary(recorder)
        self._stepped_at = time.perf_counter()

    def lr(self, lr: float) -> float:
        """`lr` times the factor that the user asked for. Only for loops that call `step`: hooks do it by themselves."""
        return lr if self._recording is None else lr * self._recording.recorder.steering.lr_factor

    def close(self) -> None:
        """End the recording; called at the end of the process, too. Under `tui-lab watch` it ends with the script.

        Where an exception is being handled, as in `finally` and `except`, it is recorded as what ended the run.
        """
        if self._code_run is not None:
            self._code_run.end()

    def _can_record(self, recording: Recording) -> bool:
        if recording.is_here and recording.has_ended:
            warnings.warn(f"not recorded: the run {self.path} has ended", stacklevel=3)
        return recording.is_here and not recording.has_ended


def watch(
    model: nn.Module | None = None,
    optimizer: Optimizer | Iterable[Optimizer] | None = None,
    *,
    tokenizer: Any = None,
    config: Mapping[str, Any] | object | None = None,
    name: str | None = None,
    steps: int = 0,
    out: str | Path | None = None,
    code: bool = True,
) -> WatchedRun:
    """Record the training of this process as a run; follow it with `tui-lab app RUN`.

    Everything is optional: what is not given is found. Called again, it returns the run that is being recorded; with
    another model, optimizer, name or folder it ends that run and begins a new one. Under `tui-lab watch` there is one
    run for the whole process. Raises ConfigError or RunError.

    tokenizer: of tiktoken or Hugging Face, a dict itos, or any object with encode and decode.
    config: a mapping, or an object whose attributes are the settings.
    name: with which the name of the run folder begins. out: the run folder itself; None: a new one.
    steps: in total, if known. code: whether the text of the script, or of the cells of a notebook, is kept in the run.
    """
    optimizers = _optimizers(optimizer)
    token_reader = None if tokenizer is None else from_object(tokenizer)
    given = Given(model, optimizers, token_reader, _settings(config), steps, code)
    folder = None if out is None else Path(out)
    present = _present_run(given, name, folder)
    if present is not None:
        return present
    if script_process.is_examined:
        return WatchedRun(None, owns=False)
    if os.environ.get("RANK", "0") != "0":
        following = FollowingRank.active  # Under `tui-lab watch`.
        if following is not None and optimizers:
            following.optimizers = optimizers
        return WatchedRun(None, owns=False)
    code_run = CodeRun.begin(name, folder, given)
    return WatchedRun(code_run.recording, owns=True)


def _present_run(given: Given, name: str | None, out: Path | None) -> WatchedRun | None:
    """Return the run that is being recorded, with what was given now.

    None if it has ended and another is asked for.

    Raises RunError where that one could not be created.
    """
    active = Recording.active
    if active is None:
        return None
    code_run = CodeRun.active
    difference = ""
    if code_run is not None and active.is_here:
        difference = code_run.difference(given, name, out)
    elif other := other_training(active, given):
        active.recorder.log.warn(f"watch() was called with another {other}: {ONE_RUN}")
    if code_run is not None and difference:
        if out is not None:
            runs.refuse_taken(out)
        code_run.end_for_another(difference)
        return None
    watched = active.recorder.script
    watched.given = _merged(watched.given, given)
    return WatchedRun(active, owns=False)


def _optimizers(optimizer: Optimizer | Iterable[Optimizer] | None) -> tuple[Optimizer, ...]:
    if optimizer is None:
        return ()
    optimizers = (optimizer,) if isinstance(optimizer, Optimizer) else tuple(optimizer)
    for each in optimizers:
        if not isinstance(each, Optimizer):
            allowed = "a torch optimizer, or a list of them"
            raise ConfigError.of(
                "wrong_type", "is not an optimizer", key="optimizer", value=type(each), allowed=allowed
            )
    return optimizers


def _settings(config: Mapping[str, Any] | object | None) -> Mapping[str, Any] | None:
    if config is None or isinstance(config, Mapping):
        return config
    with contextlib.suppress(TypeError):
        return vars(config)
    raise ConfigError.of("wrong_type", "has no settings", key="config", value=config, allowed="a dict or an object")


def _merged(old: Given, new: Given) -> Given:
    """Return what was given now, and for the rest what was given before."""
    return Given(
        old.model if new.model is None else new.model,
        new.optimizers or old.optimizers,
        new.tokenizer or old.tokenizer,
        new.settings or old.settings,
        new.steps or old.steps,
        old.code,
    )


def _shortened(text: str) -> str:
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}…"


def _number(name: str, value: Any) -> float:
    if isinstance(value, Tensor):
        value = value.detach()
    if hasattr(value, "__float__"):
        with contextlib.suppress(TypeError, ValueError):  # Of several numbers.
            return float(value)
    allowed = "a number, a tensor of one number, or text"
    raise ConfigError.of("wrong_type", f"is a {type(value).__name__}", key=name, value=value, allowed=allowed)

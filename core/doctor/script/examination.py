"""Record a script while it trains, and examine what was recorded."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from tui_lab.core.doctor.findings import Finding, Report
from tui_lab.core.doctor.loop.call_capture import CallCapture
from tui_lab.core.doctor.loop.reading import BY_HAND_BESIDES
from tui_lab.core.doctor.loop.record import LoopRecord, UpdateRecord
from tui_lab.core.doctor.script.ordinary_modes import ordinary_modes
from tui_lab.core.doctor.script.pretrained import PretrainedModels
from tui_lab.core.doctor.script.target import target_from_script, whole_model
from tui_lab.core.doctor.script.trainings import Training, joined, n_optimizers

MIN_UPDATES = 3
MAX_TRAININGS = 3
SECONDS_FOR_ANOTHER = 8.0
"""How long a script may train on, if its source creates more optimizers than it has so far."""
SECONDS_FOR_MORE = 3.0
"""CPU time that all updates may take, for a script to train on after those that are wanted in any case."""
MAX_BACKWARDS = 512
"""Backward calls without any optimizer step after which a script is not waited for any longer."""
SECONDS_BETWEEN_REPORTS = 0.5
SHARE_WITH_CHECKS = 0.85
"""Of the time limit, after which no further check begins."""
SHARE_OF_TIME = 0.5
"""Of the time limit, after which training ends in any case, so that time is left for the checks."""


class Examination(CallCapture):
    """Records from `begin` on, and calls `on_complete` at the boundary after the last update that is wanted.

    updates: how many are wanted, and how many are recorded if they take less than SECONDS_FOR_MORE together.
    unwritten: names of the files that the script would have written. progress: gets what is being done.
    deadline: of time.monotonic(), for everything. pretrained: the models that the script has loaded.
    """

    def __init__(
        self,
        script: str,
        updates: tuple[int, int],
        seconds: float,
        deadline: float,
        unwritten: Sequence[str],
        progress: Callable[[str], None],
        pretrained: PretrainedModels | None = None,
    ) -> None:
        self.on_complete: Callable[[], None] = lambda: None
        self.on_result: Callable[[Report], None] = lambda report: None
        """Gets the report so far after each check."""
        self._script = script
        self._updates, self._max_updates = updates
        self._seconds = seconds
        self._started = time.monotonic()
        self._last_check = self._started + SHARE_WITH_CHECKS * (deadline - self._started)
        self._latest = self._started + SHARE_OF_TIME * (deadline - self._started)
        self._unwritten = unwritten
        self._progress = progress
        self._n_backwards = 0
        self._reported = 0.0
        self._n_created = 0
        self._has_enough_since = 0.0
        self._earlier: list[Training] = []
        self._first_cpu: float | None = None
        """CPU time of this thread at the first update."""
        self._training = Training(self._updated, self)
        self._loads = _LoadedWeights()
        self._pretrained = pretrained or PretrainedModels()

    @property
    def is_empty(self) -> bool:
        """Whether the script has neither called backward() nor made an optimizer step."""
        return not self._earlier and self._training.n_updates == 0 and self._n_backwards == 0

    @property
    def n_updates(self) -> int:
        """How many updates the present training has made."""
        return self._training.n_updates

    @property
    def has_optimizer(self) -> bool:
        """Whether the script has created an optimizer of torch."""
        recorder = self._training.recorder
        return bool(self._earlier or recorder.optimizers or recorder.created_optimizers)

    @property
    def moves_by_hand(self) -> bool:
        """Whether the script changes the weights of its model without an optimizer."""
        return self._training.recorder.moves_by_hand

    def begin(self) -> None:
        """Install the hooks."""
        self._training.recorder.__enter__()
        self._loads.watch()
        self._progress("running the script")

    # What LoopRecorder calls

    def training_call(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._training.capture.training_call(model, args, kwargs)

    def returned(self, output: Any) -> None:
        self._training.capture.returned(output)

    def criterion(self, name: str, output: Tensor, targets: Tensor, options: dict[str, Any]) -> None:
        self._training.capture.criterion(name, output, targets, options)

    def backward(self, loss: Tensor, scale: float) -> None:
        self._training.capture.backward(loss, scale)
        self._n_backwards += 1
        now = time.monotonic()
        is_late = now > self._latest and not self._earlier
        if self._training.n_updates:
            return
        has_enough = self.moves_by_hand and self._n_backwards > self._updates
        if has_enough or self._n_backwards > MAX_BACKWARDS or is_late:
            self.on_complete()

    def created(self, optimizer: Optimizer) -> None:
        """The script has created an optimizer. After some updates of others, another training begins."""
        self._n_created += 1
        earlier = self._training
        is_rebuilt = earlier.recorder.n_rebuilt >= earlier.n_updates - 1  # One for each update is not a new training.
        if earlier.n_updates >= MIN_UPDATES and not is_rebuilt and len(self._earlier) < MAX_TRAININGS - 1:
            self._earlier.append(earlier)
            self._training = Training(self._updated, self, [optimizer])
            self._training.follow(earlier)
            self._n_backwards = 0
            self._has_enough_since = 0.0

    def evaluated(self) -> None:
        """A module has been called without gradients. An evaluation that takes long is not waited for."""
        training = self._training
        if training.n_updates >= self._updates and self._cpu_time() > 2 * SECONDS_FOR_MORE:
            self._complete_unless_waiting(time.monotonic())

    def _updated(self, update: UpdateRecord) -> None:
        now = time.monotonic()
        training = self._training
        training.n_updates += 1
        if training.n_updates == 1:
            training.first = now
        if now - self._reported > SECONDS_BETWEEN_REPORTS:
            self._reported = now
            self._progress(f"update {training.n_updates} of {self._wanted()}")
        is_late = training.n_updates >= MIN_UPDATES and now - training.first > self._seconds
        if training.n_updates >= self._wanted() or is_late or now > self._latest:
            self._complete_unless_waiting(now)

    def _wanted(self) -> int:
        """Return after how many updates the training is examined."""
        return self._max_updates if self._cpu_time() < SECONDS_FOR_MORE else self._updates

    def _cpu_time(self) -> float:
        """Return the CPU time since the first update, of this thread."""
        if self._first_cpu is None:
            self._first_cpu = time.thread_time()
        return time.thread_time() - self._first_cpu

    def _complete_unless_waiting(self, now: float) -> None:
        if now > self._latest or not self._waits_for_another(now):
            self.on_complete()

    def _waits_for_another(self, now: float) -> bool:
        """Return whether the script may train on, since it is likely to begin another training soon."""
        self._has_enough_since = self._has_enough_since or now
        is_late = now - self._has_enough_since > SECONDS_FOR_ANOTHER
        return not is_late and n_optimizers(self._script) > self._n_created

    # The report

    def report(self, error: str, *, has_ended: bool) -> Report:
        """Examine what was recorded. error: the one that ended the script, and its place.

        has_ended: whether the script ran to its end.
        """
        self._training.recorder.__exit__(None, None, None)
        self._training.capture.close()
        trainings = [*self._earlier, self._training]
        if self._earlier and self._training.n_updates < MIN_UPDATES:
            trainings.pop()
            has_ended = False
        self._progress("examining")
        with ordinary_modes():
            report = self._of_all(trainings, has_ended=has_ended)
        unseen = [f"what follows the error ({error})"] if error else []
        return replace(report, not_written=tuple(self._unwritten), not_examined=(*unseen, *report.not_examined))

    def _of_all(self, trainings: Sequence[Training], *, has_ended: bool) -> Report:
        """Examine the last training, and those of other models before it."""
        last = trainings[-1]
        records = [each.recorder.record(has_ended=has_ended and each is last) for each in trainings]
        owned = [{id(p) for module in each.capture.modules for p in module.parameters()} for each in trainings]
        was_trained = any(owned[-1] & ids for ids in owned[:-1])
        report = self._examined(last, records[-1], trained=was_trained)
        for training, record, ids in zip(trainings[:-1], records[:-1], owned[:-1], strict=True):
            n = f"an earlier training of {len(record.updates)} updates"
            if ids & owned[-1]:  # Its model has changed since, perhaps its types, too.
                report = replace(report, not_examined=(*report.not_examined, f"{n} of the same model"))
            else:
                report = joined(self._examined(training, record, trained=False), report)
                report = replace(report, examined=(n, *report.examined))
        return report

    def _examined(self, training: Training, record: LoopRecord, *, trained: bool) -> Report:
        from tui_lab.core.doctor.runner import examine

        recorder = training.recorder
        optimizers = recorder.optimizers or recorder.created_optimizers
        model = whole_model(training.capture, recorder.model, optimizers)
        is_trained = trained or self._loads.trained or self._pretrained.has_loaded(model)
        target = target_from_script(training.capture, record, model, optimizers, trained=is_trained)
        n_updates = len(record.updates)

        def result(so_far: Report) -> None:
            self.on_result(replace(so_far, not_written=tuple(self._unwritten), updates=n_updates))

        report = examine(target, on_check=self._progress, on_result=result, deadline=self._last_check)
        report = replace(report, updates=n_updates)
        waited = record.has_ended or self._n_backwards > MAX_BACKWARDS
        has_stepped = bool(record.updates or record.skipped) or record.moves_by_hand
        if waited and not has_stepped and not any(finding.code == "no_step" for finding in report.findings):
            report = replace(report, findings=(_no_step(self._n_backwards, record), *report.findings))
        return report if record.updates else replace(report, without_updates=_why_no_updates(record))


def _why_no_updates(record: LoopRecord) -> str:
    if record.moves_by_hand:
        return f"it changes its weights by hand, and {BY_HAND_BESIDES}"
    if record.skipped:
        return f"GradScaler skipped all of its {len(record.skipped)} steps, since a gradient was not finite"
    return "it made no step of an optimizer"


def _no_step(n_backwards: int, record: LoopRecord) -> Finding:
    backward = next((event for event in record.remaining if event.operation == "backward"), None)
    return Finding(
        code="no_step",
        title="The optimizer never makes a step, so no weight changes.",
        evidence=f"{n_backwards} backward calls, and no call of step()",
        why="backward() only computes gradients; the weights change in optimizer.step().",
        fix="Call optimizer.step() after loss.backward().",
        location="" if backward is None else backward.line,
    )


class _LoadedWeights:
    """Notices whether a script loads the weights of an earlier training."""

    def __init__(self) -> None:
        self.trained = False
        self._has_read = False

    def watch(self) -> None:
        load: Callable[..., Any] = vars(torch)["load"]
        load_state = nn.Module.load_state_dict

        def loading(*args: Any, **kwargs: Any) -> Any:
            self._has_read = True
            return load(*args, **kwargs)

        def loading_state(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
            self.trained = self.trained or self._has_read
            return load_state(module, *args, **kwargs)

        vars(torch)["load"] = loading
        setattr(nn.Module, "load_state_dict", loading_state)  # noqa: B010 - mypy refuses to assign a method.

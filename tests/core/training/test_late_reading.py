"""Reading the loss one update late: the same run, bit for bit, without waiting for the device."""

import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.core.synchronizations import synchronizations
from tests.core.tiny import losses, of_kind, same_weights, tiny, trainer
from tui_lab.core import commands as cmd
from tui_lab.core import events as ev
from tui_lab.core.training.checkpoint import Checkpoint
from tui_lab.core.training.evaluation import evaluate
from tui_lab.core.training.late_reading import LateReading
from tui_lab.core.training.loss_scale import FIRST_SCALE
from tui_lab.core.training.model_factory import optimizers_of
from tui_lab.core.training.setup import set_up
from tui_lab.core.training.task_factory import build_task
from tui_lab.core.training.train_step import TrainStepHooks
from tui_lab.core.training.trainer import Trainer
from tui_lab.core.training.update_rows import UpdateRows
from tui_lab.core.user_code.external_model import Model
from tui_lab.data.dataset import Metric

LARGE_VOCAB = 3
"""At most the vocabulary of the tests, so that the head is computed in chunks."""


class Recorded:
    """A trainer with all that it hands out, but for durations."""

    def __init__(self, *overrides: str, reads_late: bool, **extra: Any) -> None:
        self.checkpoints: list[Checkpoint] = []
        self.rows: list[UpdateRows] = []
        # With a clock that stands still, writing the best checkpoints takes no share of the time.
        self.trainer = trainer(
            *overrides,
            save=self._save,
            keep_rows=self._keep,
            clock=lambda: 0.0,
            reads_late=reads_late,
            **extra,
        )
        assert (self.trainer.late is not None) == reads_late

    def _save(self, checkpoint: Checkpoint) -> str:
        self.checkpoints.append(checkpoint)
        return "kept"

    def _keep(self, rows: UpdateRows) -> None:
        self.rows.append(rows)


def late(training: Trainer) -> LateReading:
    assert training.late is not None
    return training.late


def both(*overrides: str) -> tuple[Recorded, Recorded]:
    return Recorded(*overrides, reads_late=False), Recorded(*overrides, reads_late=True)


def assert_equal(at_once: Recorded, read_late: Recorded) -> None:
    """All but the events: progress, weights, optimizer states, checkpoints and rows."""
    assert at_once.trainer.progress == read_late.trainer.progress
    assert same_weights(at_once.trainer, read_late.trainer)
    assert len(at_once.checkpoints) == len(read_late.checkpoints)
    for a, b in zip(at_once.checkpoints, read_late.checkpoints, strict=True):
        assert a.progress == b.progress
        for ours, theirs in ((a.model, b.model), (a.optimizer, b.optimizer)):
            assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
    for row, other in zip(at_once.rows, read_late.rows, strict=True):
        assert (row.step, row.loss) == (other.step, other.loss)
        for field in ("ids", "sums", "targets"):
            assert getattr(row, field).tolist() == getattr(other, field).tolist()


@pytest.mark.parametrize(
    "overrides",
    [
        ("optim.grad_clip=0.3", "model.dropout=0.2", "train.accumulate=2"),
        ("optim.name=adamw", "optim.schedule=cosine", "optim.warmup_steps=3", "optim.weight_decay=0.1"),
        ("optim.name=momentum", "train.eval_every=3", "train.checkpoint_every=4"),
        ("optim.name=sgd", "train.steps=1"),
        ("train.steps=60", "train.target_loss=1.3", "train.eval_every=7"),
        ("train.steps=60", "train.eval_every=2", "train.patience=2", "optim.lr=0.3"),
        ("train.precision=bf16", "train.steps=12"),
        ("train.precision=fp16", "train.steps=12"),
    ],
)
def test_run_is_the_same_bit_for_bit(overrides: tuple[str, ...]) -> None:
    at_once, read_late = both(*overrides)
    assert list(read_late.trainer.events()) == list(at_once.trainer.events())
    assert_equal(at_once, read_late)


def test_loss_arrives_exactly_one_update_later() -> None:
    training = trainer(reads_late=True)
    queued: list[int] = []
    loss_sum = training.hooks.loss_sum

    def counted(model: Model, x: Tensor, y: Tensor, losses: list[Tensor] | None = None) -> Tensor:
        queued.append(len(queued) + 1)
        return loss_sum(model, x, y, losses)

    training.hooks = replace(training.hooks, loss_sum=counted)
    done = [(len(queued), event.step) for event in training.events() if isinstance(event, ev.StepDone)]
    # The first is read at once, and so is the last.
    assert done == [(1, 1), *((step + 1, step) for step in range(2, 8)), (8, 8)]


@pytest.mark.parametrize(("kernel", "rows"), [("small vocabulary", "true"), ("head in chunks", "false")])
def test_update_waits_for_nothing(kernel: str, rows: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if kernel == "head in chunks":
        monkeypatch.setattr("tui_lab.core.kernels.head_loss.CHUNK_FROM_VOCAB", LARGE_VOCAB)
    training = trainer("train.steps=200", "optim.grad_clip=0.3", f"train.row_losses={rows}", reads_late=True)
    reading = late(training)
    reading.run_updates(49)
    with synchronizations() as waits:
        # The 51st update measures everything: layers, dead units and update ratio.
        for _ in range(2):
            reading._unread = reading._queue(reading._unread)
    assert waits == []
    with synchronizations() as waits:
        [metrics] = reading.read()
    assert waits and metrics.by_layer is not None


@pytest.mark.parametrize(
    ("kernel", "precision"), [("small vocabulary", "fp32"), ("head in chunks", "bf16"), ("head in chunks", "fp16")]
)
def test_update_runs_where_no_value_can_be_read(kernel: str, precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the meta device, where reading is an error, and so is an operation on tensors of two devices."""
    if kernel == "head in chunks":
        monkeypatch.setattr("tui_lab.core.kernels.head_loss.CHUNK_FROM_VOCAB", LARGE_VOCAB)
    # The meta device has neither fused optimizers of its own nor autocast.
    # (torch.optim has no attribute "optimizer", so monkeypatch would not find it by its name.)
    monkeypatch.setattr(sys.modules["torch.optim.optimizer"], "_get_fused_kernels_supported_devices", lambda: ["meta"])
    for module in ("model", "kernels.head_loss"):
        monkeypatch.setattr(f"tui_lab.core.{module}.autocast", lambda precision, device: nullcontext())
    config = tiny("optim.grad_clip=0.3", "model.dropout=0.1", "train.accumulate=2", f"train.precision={precision}")
    setup = set_up(config, build_task(config))
    setup.model.to("meta")
    optimizers = optimizers_of(config, setup.model)
    setup = replace(setup, device=torch.device("meta"), optimizers=optimizers)
    reading = late(Trainer(setup, keep_rows=lambda rows: None, reads_late=True))
    first = reading._queue(None)
    with pytest.raises(NotImplementedError):
        reading._queue(first).numbers.read()


@pytest.mark.parametrize("metric", ["exact_match", "perplexity"])
def test_evaluation_waits_for_nothing_between_its_batches(metric: Metric, monkeypatch: pytest.MonkeyPatch) -> None:
    training = trainer("model.dropout=0.2")
    task = replace(training.task, metric=metric)
    expected = evaluate(training.model, task, 12, training.device)
    monkeypatch.setattr("tui_lab.core.training.evaluation.TOKENS_PER_BATCH", 20)
    calls = 0

    def stop_if_waited() -> bool:
        nonlocal calls
        calls += 1
        return bool(waits)

    with synchronizations() as waits:
        result = evaluate(training.model, task, 12, training.device, stop=stop_if_waited)
    assert calls == 3 and waits
    assert result is not None and expected is not None
    assert result.loss == pytest.approx(expected.loss) and result.exact_match == expected.exact_match


def test_update_read_at_once_waits() -> None:
    training = trainer()
    with synchronizations() as waits:
        training.train_step()
    assert waits


@pytest.mark.parametrize("make", [lambda: cmd.Pause(), lambda: cmd.Save(), lambda: cmd.Evaluate(), lambda: cmd.Stop()])
def test_command_finds_every_update_read(make: Callable[[], cmd.Command]) -> None:
    read_late = Recorded("train.steps=20", reads_late=True)
    training = read_late.trainer
    events = training.events()
    for event in events:
        if event.kind == "step" and event.step == 5:
            break
    assert late(training).has_unread
    training.commands.put(make())
    following = [next(events) for _ in range(2)]
    assert [event.step for event in following] == [6, 6] and following[0].kind == "step"
    assert not late(training).has_unread
    at_once = Recorded("train.steps=20", reads_late=False)
    for _ in range(6):
        at_once.trainer.train_step()
    assert same_weights(training, at_once.trainer)
    if read_late.checkpoints:
        assert read_late.checkpoints[-1].progress.step == 6


def test_single_steps_are_made_one_by_one() -> None:
    training = trainer(reads_late=True)
    training.commands.put(cmd.Pause())
    training.commands.put(cmd.Step(3))
    events = training.events()
    kinds = [next(events).kind for _ in range(7)]
    assert kinds == ["started", "paused", "resumed", "step", "step", "step", "paused"]
    assert training.step == 3 and not late(training).has_unread
    training.commands.put(cmd.Set("optim.lr", 0.5))
    training.commands.put(cmd.Resume())
    following = list(events)
    [changed] = of_kind(ev.Changed, following)
    assert changed.step == 3
    assert [(event.step, event.lr) for event in of_kind(ev.StepDone, following)] == [(i, 0.5) for i in range(4, 9)]


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_run_that_is_stopped_and_resumed_equals_one_read_at_once(precision: str) -> None:
    overrides = ("model.dropout=0.2", f"train.precision={precision}")
    whole = Recorded(*overrides, reads_late=False)
    expected = losses(whole.trainer.events())
    stopped = Recorded(*overrides, reads_late=True)
    events = stopped.trainer.events()
    before = []
    for event in events:
        if isinstance(event, ev.StepDone):
            before.append(event.loss)
            if event.step == 4:
                stopped.trainer.commands.put(cmd.Stop())
    assert stopped.trainer.step == 5  # It was queued when the command came.
    resumed = trainer(resume=stopped.checkpoints[-1], reads_late=True)
    assert before + losses(resumed.events()) == expected and same_weights(whole.trainer, resumed)


class Poison:
    """Makes the loss of the `at`-th call of loss_sum infinite or its gradient NaN, or raises an error of torch."""

    def __init__(self, training: Trainer, at: int, kind: str) -> None:
        self._loss_sum = training.hooks.loss_sum
        self._calls_left = at
        self._kind = kind
        training.hooks = replace(training.hooks, loss_sum=self)

    def __call__(self, model: Model, x: Tensor, y: Tensor, losses: list[Tensor] | None = None, /) -> Tensor:
        self._calls_left -= 1
        loss = self._loss_sum(model, x, y, losses)
        if self._calls_left:
            return loss
        if self._kind == "loss":
            return loss * float("inf")
        if self._kind == "error":
            raise RuntimeError("an error of torch")
        # The gradient of the square root is infinite at zero.
        return loss + torch.sqrt(0.0 * model.loss_sum(x, y))


@pytest.mark.parametrize(
    ("at", "optimizer", "kind"),
    [
        (1, "momentum", "loss"),
        (2, "adam", "gradient"),
        (2, "momentum", "gradient"),
        (5, "adam", "loss"),
        (8, "adam", "loss"),
        (2, "adam", "error"),
        (5, "sgd", "error"),
    ],
)
def test_failure_names_its_update_and_leaves_the_weights_before_it(at: int, optimizer: str, kind: str) -> None:
    at_once, read_late = both(f"optim.name={optimizer}", "optim.grad_clip=0.3")
    for recorded in (at_once, read_late):
        Poison(recorded.trainer, at, kind)
    expected, events = list(at_once.trainer.events()), list(read_late.trainer.events())
    assert isinstance(events[-1], ev.Failed) and events[-1].step == at - 1
    assert events == expected
    assert_equal(at_once, read_late)


def test_later_updates_do_not_change_the_weights_until_the_failure_is_read() -> None:
    training = trainer(reads_late=True)
    reading = late(training)
    reading.run_updates(2)
    before = {name: value.clone() for name, value in training.model.state_dict().items()}
    Poison(training, 1, "gradient")
    for _ in range(3):
        reading._unread = reading._queue(reading._unread)
    after = training.model.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_overflow_in_float16_is_made_again_with_a_smaller_scale() -> None:
    at_once, read_late = both("train.precision=fp16")
    for _ in range(3):
        at_once.trainer.train_step()
    late(read_late.trainer).run_updates(3)
    for recorded in (at_once, read_late):
        recorded.trainer.hooks = TrainStepHooks(divisor=lambda targets, rows: targets / 64)
    assert list(read_late.trainer.events()) == list(at_once.trainer.events())
    scale = read_late.trainer.progress.loss_scale
    assert scale is not None and scale.value < FIRST_SCALE
    assert_equal(at_once, read_late)


@pytest.mark.parametrize("override", ["optim.name=muon", 'faults=["shifted_targets"]'])
def test_updates_that_the_device_cannot_skip_are_read_at_once(override: str) -> None:
    assert trainer(override, reads_late=True).late is None


def test_cpu_reads_at_once() -> None:
    assert trainer().late is None

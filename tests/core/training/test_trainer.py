"""The trainer: its events, commands, live changes, patience, failures and measurements."""

import math
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Any, NoReturn

import pytest
import torch

from tests.core.tiny import losses, of_kind, same_weights, trainer
from tui_lab.core import commands as cmd
from tui_lab.core import events as ev
from tui_lab.core.config import settings
from tui_lab.core.training import checkpoint as ckpt
from tui_lab.core.training.checkpoint import Checkpoint, Weights
from tui_lab.core.training.evaluation import Evaluation, evaluate
from tui_lab.core.training.model_looks import ENDED
from tui_lab.core.training.trainer import Trainer
from tui_lab.core.user_code.external_model import Model
from tui_lab.util.errors import ConfigError, DataError


class Saves:
    """A save function that keeps the checkpoints."""

    def __init__(self) -> None:
        self.kept: list[Checkpoint] = []

    def __call__(self, checkpoint: Checkpoint) -> str:
        self.kept.append(checkpoint)
        return f"kept/{len(self.kept)}"


def _first_step(events: Iterator[ev.Event]) -> None:
    """Run a trainer until its first step is done."""
    assert [next(events).kind for _ in range(2)] == ["started", "step"]


def test_events_of_a_run_are_started_steps_evaluated_saved_stopped() -> None:
    events = list(trainer("train.steps=2", save=Saves()).events())
    assert [event.kind for event in events] == ["started", "step", "step", "evaluated", "saved", "stopped"]
    assert [event.step for event in events] == [0, 1, 2, 2, 2, 2]
    started = events[0]
    assert isinstance(started, ev.Started)
    assert started.n_vocab == 5 and started.train_examples + started.val_examples == 5**3 and not started.resumed


def test_clock_measures_a_step() -> None:
    now = iter(range(1000))
    [step] = of_kind(ev.StepDone, trainer("train.steps=1", clock=lambda: next(now)).events())
    # One tick for the batch, one for the rest.
    assert step.data_seconds == 1 and step.seconds == 2 and step.tokens == 4 * 5 and step.tokens_per_s == 10


def test_runs_of_one_seed_are_bitwise_equal_and_of_two_seeds_are_not() -> None:
    first, again, other = (trainer("model.dropout=0.2", f"train.seed={seed}") for seed in (1, 1, 2))
    assert losses(first.events()) == losses(again.events()) != losses(other.events())
    assert same_weights(first, again) and not same_weights(first, other)


def test_loss_ema_is_the_exponentially_weighted_mean() -> None:
    steps = of_kind(ev.StepDone, trainer().events())
    assert steps[0].loss_ema == steps[0].loss
    for before, after in pairwise(steps):
        assert after.loss_ema == pytest.approx(0.9 * before.loss_ema + 0.1 * after.loss)


def test_accumulated_micro_batches_give_the_gradient_of_the_batch() -> None:
    # SGD, since Adam divides by the gradient's size and so magnifies rounding where it is near zero.
    whole, parts = (trainer("optim.name=sgd", "optim.lr=0.5", f"train.accumulate={n}") for n in (1, 3))
    assert losses(whole.events()) == pytest.approx(losses(parts.events()), rel=1e-5)
    for a, b in zip(whole.model.parameters(), parts.model.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_evaluations_and_checkpoints_come_at_their_steps_and_at_the_end() -> None:
    training = trainer("train.eval_every=3", "train.checkpoint_every=4", save=Saves(), clock=lambda: 0.0)
    events = list(training.events())
    evaluations = of_kind(ev.Evaluated, events)
    assert [event.step for event in evaluations] == [3, 6, 8]
    best = {event.step for event in evaluations if event.best}
    assert [event.step for event in of_kind(ev.Saved, events)] == sorted({4, 8} | best)


def test_pause_waits_and_step_makes_n_steps() -> None:
    training = trainer()
    training.commands.put(cmd.Pause())
    training.commands.put(cmd.Step(3))
    events = training.events()
    kinds = [next(events).kind for _ in range(7)]
    assert kinds == ["started", "paused", "resumed", "step", "step", "step", "paused"]
    training.commands.put(cmd.Resume())
    assert next(events).kind == "resumed"
    assert of_kind(ev.StepDone, events)[-1].step == 8


def test_step_command_while_running_pauses_after_n_steps() -> None:
    training = trainer()
    training.commands.put(cmd.Step(2))
    events = training.events()
    assert [next(events).kind for _ in range(4)] == ["started", "step", "step", "paused"]


def test_stop_saves_and_ends_a_paused_run() -> None:
    saves = Saves()
    training = trainer(save=saves)
    events = training.events()
    _first_step(events)
    training.commands.put(cmd.Pause())
    assert next(events).kind == "paused"
    training.commands.put(cmd.Stop())
    saved, stopped = events
    assert isinstance(saved, ev.Saved) and isinstance(stopped, ev.Stopped) and stopped.reason == "stopped"
    assert saves.kept[-1].progress.step == 1


def test_stop_interrupts_an_evaluation() -> None:
    training = trainer("train.steps=1", "train.eval_examples=1000000")
    events = training.events()
    _first_step(events)
    training.commands.put(cmd.Stop())
    [stopped] = events
    assert isinstance(stopped, ev.Stopped) and stopped.reason == "stopped"


def test_evaluate_save_and_snapshot_run_between_steps() -> None:
    taken: list[Weights] = []
    saves = Saves()
    training = trainer(save=saves)
    events = training.events()
    _first_step(events)
    for command in (cmd.Evaluate(), cmd.Save(), cmd.Snapshot(lambda weights, whose: taken.append(weights))):
        training.commands.put(command)
    assert [next(events).kind for _ in range(3)] == ["evaluated", "saved", "saved"]
    assert [checkpoint.by_hand for checkpoint in saves.kept] == [False, True], "the best one, and the one asked for"
    assert next(events).kind == "step"
    [weights] = taken
    before = {name: tensor.clone() for name, tensor in weights.items()}
    list(events)
    assert all(torch.equal(weights[name], before[name]) for name in weights), "a snapshot must not train on"
    assert not torch.equal(weights["W_E.weight"], training.model.get_parameter("W_E.weight"))


def test_inspect_changes_nothing_even_if_it_raises() -> None:
    plain, looked_at = trainer("model.dropout=0.3"), trainer("model.dropout=0.3")
    modes: list[bool] = []

    def look(model: Model) -> None:
        modes.append(model.training or torch.is_grad_enabled())
        torch.rand(3)
        raise ValueError("clumsy")

    looked_at.commands.put(cmd.Inspect(look))
    events = list(looked_at.events())
    assert modes == [False] and losses(events) == losses(plain.events())
    assert "clumsy" in of_kind(ev.Warned, events)[0].message


def test_what_cannot_be_answered_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    reasons: list[str] = []

    def receive(*values: Any) -> NoReturn:
        raise AssertionError("not refused")

    def look(model: Model) -> None:
        raise ValueError("clumsy")

    def fail(state: Any) -> NoReturn:
        raise MemoryError

    training = trainer("train.steps=3", save=Saves())
    events = training.events()
    _first_step(events)
    now, later = (cmd.Snapshot(receive, at_evaluation, reasons.append) for at_evaluation in (False, True))
    with monkeypatch.context() as context:
        context.setattr(ckpt, "copy_weights", fail)
        for command in (now, cmd.Inspect(look, refuse=reasons.append)):
            training.commands.put(command)
        assert next(events).kind == "step"
    assert "memory" in reasons[0] and "clumsy" in reasons[1]
    for each in (later, cmd.Stop(), now):
        training.commands.put(each)
    assert next(events).kind == "saved" and reasons[2:] == []
    assert next(events).kind == "stopped" and list(events) == []
    assert list(training.run_after_end(later)) == [] and reasons[2:] == [ENDED] * 3


def test_error_of_torch_saves_and_fails_the_run() -> None:
    saves = Saves()
    training = trainer(save=saves)
    events = training.events()
    _first_step(events)
    training.model.head = torch.nn.Linear(3, 5)
    saved, failed = events
    assert isinstance(saved, ev.Saved) and isinstance(failed, ev.Failed) and failed.step == 1


def test_update_ratio_is_the_relative_change_of_the_layers_matrices() -> None:
    training = trainer("optim.name=sgd", "optim.lr=0.1", "train.steps=11")
    events = training.events()
    before = [p.detach().clone() for n, p in training.model.named_parameters() if n[:6] == "layers" and p.dim() == 2]
    next(events)
    first = next(events)
    after = [p.detach() for n, p in training.model.named_parameters() if n[:6] == "layers" and p.dim() == 2]
    moved = sum(float((a - b).square().sum()) for a, b in zip(after, before, strict=True))
    expected = math.sqrt(moved / sum(float(b.square().sum()) for b in before))
    assert isinstance(first, ev.StepDone) and first.update_ratio == pytest.approx(expected, rel=1e-4)
    measured = [event.step for event in of_kind(ev.StepDone, events) if event.update_ratio is not None]
    assert measured == [11]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("optim.lr", 0.5),
        ("model.dropout", 0.5),
        ("train.batch_size", 2),
        ("optim.weight_decay", 0.5),
        ("optim.grad_clip", 0.01),
        ("data.shuffle", "off"),
        ("data.overfit", 1),
    ],
)
def test_live_change_is_an_event_and_changes_the_training(key: str, value: object) -> None:
    plain, changing = trainer(), trainer()
    expected = losses(plain.events())
    events = changing.events()
    _first_step(events)
    changing.commands.put(cmd.Set(key, value))
    change = next(events)
    assert isinstance(change, ev.Changed) and (change.key, change.new, change.step) == (key, value, 1)
    # Any of these shows in the loss two updates later, at the latest.
    assert losses(events)[1:] != expected[2:]


def test_live_change_before_the_first_step_equals_the_setting() -> None:
    changed, from_start = trainer("optim.lr=0.3"), trainer("optim.lr=0.01")
    changed.commands.put(cmd.Set("optim.lr", 0.01))
    assert losses(changed.events()) == losses(from_start.events())


@pytest.mark.parametrize("steps", [3, 12])
@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
def test_changed_number_of_steps_gives_the_rates_of_a_run_of_that_length(steps: int, schedule: str) -> None:
    scheduled = f"optim.schedule={schedule}"
    changing, whole = trainer(scheduled), trainer(scheduled, f"train.steps={steps}")
    events = changing.events()
    _first_step(events)
    changing.commands.put(cmd.Set("train.steps", steps))
    later = list(events)
    rates = [step.lr for step in of_kind(ev.StepDone, whole.events())]
    assert [step.lr for step in of_kind(ev.StepDone, later)] == rates[1:]
    assert [event.kind for event in later[-2:]] == ["evaluated", "stopped"] and changing.step == steps


def test_fewer_steps_than_are_done_end_the_run_at_the_next_step_with_a_valid_checkpoint() -> None:
    saves = Saves()
    training = trainer(save=saves)
    events = training.events()
    for _ in range(4):
        next(events)
    training.commands.put(cmd.Set("train.steps", 1))
    assert [event.kind for event in events] == ["changed", "evaluated", "saved", "stopped"]
    assert training.config.train.steps == training.step == 3
    [*_, last] = trainer(resume=saves.kept[-1]).events()
    assert isinstance(last, ev.Stopped) and last.reason == "done"


def test_command_during_the_last_evaluation_makes_no_further_step(monkeypatch: pytest.MonkeyPatch) -> None:
    training = trainer("train.steps=2")
    commands = [cmd.Inspect(lambda model: None)]

    def evaluate_meanwhile(*args: Any, **kwargs: Any) -> Evaluation | None:
        while commands:
            training.commands.put(commands.pop())
        return evaluate(*args, **kwargs)

    monkeypatch.setattr("tui_lab.core.training.trainer.evaluate", evaluate_meanwhile)
    assert [event.step for event in training.events()] == [0, 1, 2, 2, 2]


def test_resumed_run_keeps_the_changed_number_of_steps() -> None:
    saves = Saves()
    training = trainer(save=saves)
    for command in (cmd.Set("train.steps", 10), cmd.Step(2), cmd.Save(), cmd.Stop()):
        training.commands.put(command)
    list(training.events())
    resumed = trainer(resume=saves.kept[-1])
    started, *_, last = resumed.events()
    assert isinstance(started, ev.Started) and started.steps == 10 and last.step == 10


def test_weights_are_copied_at_the_start_and_after_the_next_evaluation() -> None:
    training = trainer("train.eval_every=3")
    steps: list[int] = []
    for at_evaluation in (False, True):
        training.commands.put(cmd.Snapshot(lambda weights, info: steps.append(info.step), at_evaluation))
    for event in training.events():
        if isinstance(event, ev.StepDone) and event.step == 3:
            assert steps == [0]
    assert steps == [0, 3]


def changes_of(commands: Iterable[cmd.Command], *overrides: str) -> list[tuple[object, object]]:
    """Old and new value of each change that comes of `commands`, all sent before the first step."""
    training = trainer(*overrides)
    for command in commands:
        training.commands.put(command)
    return [(change.old, change.new) for change in of_kind(ev.Changed, training.events())]


def test_change_to_the_present_value_is_no_event() -> None:
    plain, same = trainer("data.overfit=1"), trainer("data.overfit=1")
    for key in ("optim.lr", "data.overfit", "train.batch_size"):
        same.commands.put(cmd.Set(key, settings.get(same.config, key)))
    assert [event.kind for event in same.events()] == [event.kind for event in plain.events()]
    assert same.loader == plain.loader


@pytest.mark.parametrize(
    ("command", "values"),
    [
        (cmd.Scale("optim.lr", 2.0), [0.01, 0.02, 0.04, 0.08]),
        (cmd.Scale("optim.lr", 0.5), [0.01, 0.005, 0.0025, 0.00125]),
        (cmd.Scale("optim.lr", 10.0**3), [0.01, 10.0, 100.0]),
        (cmd.Scale("train.batch_size", 2.0), [4, 8, 16, 32]),
        (cmd.Scale("train.batch_size", 0.5), [4, 2, 1]),
        (cmd.Shift("model.dropout", 0.05), [0.1, 0.15, 0.2, 0.25]),
        (cmd.Shift("model.dropout", -0.05), [0.1, 0.05, 0.0]),
        (cmd.Cycle("data.overfit", (0, 1)), [3, 0, 1, 0]),
        (cmd.Cycle("data.shuffle", ("epoch", "once", "off")), ["epoch", "once", "off", "epoch"]),
    ],
)
def test_relative_changes_accumulate_and_undo_reverts_each(command: cmd.Change, values: list[object]) -> None:
    forth = list(pairwise(values))
    back = [(new, old) for old, new in reversed(forth)]
    commands: list[cmd.Command] = [*[command] * 3, *[cmd.Undo()] * len(forth)]
    assert changes_of(commands, "model.dropout=0.1", "data.overfit=3") == forth + back


@pytest.mark.parametrize(
    "command",
    [
        cmd.Undo(),
        cmd.Scale("model.d_model", 2.0),
        cmd.Scale("data.shuffle", 2.0),
        cmd.Shift("model.dropout", -0.05),
        cmd.Cycle("optim.lrr", (1, 2)),
    ],
)
def test_impossible_relative_change_is_a_warning(command: cmd.Command) -> None:
    training = trainer()
    training.commands.put(command)
    events = list(training.events())
    assert len(of_kind(ev.Warned, events)) == 1 and not of_kind(ev.Changed, events)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("model.d_model", 16, "needs a restart"),
        ("optim.lrr", 1, "did you mean 'optim.lr'"),
        ("optim.lr", -1, "must be at least 0"),
        ("train.batch_size", 10**6, "the training part has"),
        ("data.overfit", 10**6, "the training part has"),
    ],
)
def test_impossible_change_is_a_warning_and_changes_nothing(key: str, value: object, message: str) -> None:
    plain, warned = trainer(), trainer()
    warned.commands.put(cmd.Set(key, value))
    events = list(warned.events())
    [warning] = of_kind(ev.Warned, events)
    assert message in warning.message and warned.config == plain.config
    assert losses(events) == losses(plain.events())


def test_patience_stops_and_restores_the_best_weights() -> None:
    saves = Saves()
    # A rate of 100 makes every evaluation after the first update worse than the last.
    training = trainer("optim.lr=100", "train.eval_every=1", "train.patience=2", "train.steps=50", save=saves)
    events = training.events()
    best: Weights = {}
    best_step = 0
    for event in events:
        if isinstance(event, ev.Evaluated) and event.best:
            best = {name: tensor.clone() for name, tensor in training.model.state_dict().items()}
            best_step = event.step
    assert isinstance(event, ev.Stopped) and event.reason == "patience"
    assert training.step == best_step + 2
    kept = saves.kept[-1]
    assert kept.best is not None and all(torch.equal(kept.best[name], best[name]) for name in best)
    assert kept.progress.best_step == best_step
    assert event.restored == best_step
    now = training.model.state_dict()
    assert all(torch.equal(now[name], best[name]) for name in best), "the best weights are back"
    assert not all(torch.equal(kept.model[name], best[name]) for name in best), "the last ones are saved"
    whose: list[cmd.WeightsInfo] = []
    list(training.run_after_end(cmd.Snapshot(lambda weights, of: whose.append(of))))
    assert whose == [cmd.WeightsInfo(best_step, best=True)]


def test_evaluations_since_the_best_count_each_weights_once() -> None:
    training = trainer("optim.lr=100", "train.eval_every=1", "train.steps=4")
    training.commands.put(cmd.Evaluate())
    evaluations = []
    for event in training.events():
        if isinstance(event, ev.Evaluated):
            evaluations.append(event)
        if isinstance(event, ev.StepDone) and event.step == 2:
            training.commands.put(cmd.Evaluate())  # The weights of step 2, which are evaluated anyway.
            training.commands.put(cmd.Evaluate())
    assert [event.step for event in evaluations] == [0, 1, 2, 2, 3, 4]
    assert [event.since_best for event in evaluations] == [0, 1, 2, 2, 3, 4]
    assert [event.best for event in evaluations] == [True, *[False] * 5]


def test_last_weights_stay_without_patience() -> None:
    training = trainer("train.eval_every=1", "optim.lr=100")
    stopped = list(training.events())[-1]
    assert isinstance(stopped, ev.Stopped) and stopped.restored is None
    whose: list[cmd.WeightsInfo] = []
    list(training.run_after_end(cmd.Snapshot(lambda weights, of: whose.append(of))))
    assert whose == [cmd.WeightsInfo(8)]


@pytest.mark.parametrize("poison", [math.nan, math.inf])
def test_loss_that_is_not_finite_fails_before_the_update(poison: float) -> None:
    saves = Saves()
    training = trainer(save=saves)
    events = training.events()
    _first_step(events)
    with torch.no_grad():
        training.model.get_parameter("W_E.weight")[0, 0] = poison
    before = {name: tensor.clone() for name, tensor in training.model.state_dict().items()}
    saved, traced, failed = events
    assert isinstance(saved, ev.Saved) and isinstance(failed, ev.Failed)
    assert isinstance(traced, ev.NonFinite) and traced.origin.parameter == "W_E.weight"
    assert "not finite" in failed.message and "optim.lr" in failed.message
    after = training.model.state_dict()
    assert all(torch.equal(before[name].nan_to_num(), after[name].nan_to_num()) for name in before)
    assert training.step == 1


def test_checkpoint_that_cannot_be_written_is_save_failed_and_training_continues() -> None:
    def full(checkpoint: Checkpoint) -> str:
        raise OSError("No space left on device")

    events = list(trainer("train.checkpoint_every=2", save=full).events())
    assert all("No space left" in warning.message for warning in of_kind(ev.Warned, events))
    assert [warning.step for warning in of_kind(ev.SaveFailed, events)] == [2, 4, 6, 8]
    assert isinstance(events[-1], ev.Stopped) and len(losses(events)) == 8


def test_clock_that_is_set_back_gives_no_negative_time() -> None:
    ticks = iter(range(10_000, 0, -1))
    events = list(trainer("train.eval_every=2", clock=lambda: float(next(ticks))).events())
    assert isinstance(events[-1], ev.Stopped)
    for update in of_kind(ev.StepDone, events):
        assert update.seconds >= 0 and update.tokens_per_s >= 0 and (update.data_seconds or 0.0) >= 0


def test_batch_larger_than_the_data_is_an_error_before_training() -> None:
    with pytest.raises(DataError, match=r"train.batch_size = 126: the training part has only \d+ examples"):
        trainer("train.batch_size=126")


def test_device_that_is_missing_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError) as caught:
        trainer("train.device=cuda")
    assert (caught.value.code, caught.value.problems[0].key) == ("unavailable", "train.device")


def test_overfit_draws_the_same_examples_every_step() -> None:
    training: Trainer = trainer("data.overfit=2")
    ids = {tuple(sorted(training.loader.batch(step).ids.tolist())) for step in range(8)}
    assert len(ids) == 1 and len(next(iter(ids))) == 2


def test_dead_units_are_those_that_no_token_activates() -> None:
    plain, dead = trainer("train.steps=1"), trainer("train.steps=1", 'faults=["dead_relus"]')
    [fresh] = of_kind(ev.StepDone, plain.events())
    [never] = of_kind(ev.StepDone, dead.events())
    assert fresh.dead_units is not None and fresh.dead_units < 0.5 and never.dead_units == 1.0


def test_target_loss_ends_the_run_after_an_evaluation_and_for_good() -> None:
    saves = Saves()
    events = list(trainer("train.target_loss=1.55", "train.steps=2000", save=saves).events())
    steps = of_kind(ev.StepDone, events)
    assert steps[-1].loss_ema <= 1.55 < steps[-2].loss_ema
    assert [event.kind for event in events[-3:]] == ["evaluated", "saved", "stopped"]
    assert isinstance(events[-1], ev.Stopped) and events[-1].reason == "target"
    assert not of_kind(ev.StepDone, trainer(resume=saves.kept[-1]).events())


def test_step_does_not_grow_the_queue_of_unused_devices_in_torch() -> None:
    """`torch.manual_seed` keeps a stack trace at each call until CUDA is first used: a leak, and a tenth of a step."""
    training = trainer()
    training.train_step()
    before = len(torch.cuda._queued_calls)
    for _ in range(3):
        training.train_step()
    assert len(torch.cuda._queued_calls) == before

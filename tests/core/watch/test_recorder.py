"""The recorder: what it records equals what the loop sees, and the loop does not change."""

import contextlib
import copy
import gc
import math
import os
import pickle  # noqa: TID251 - the script does it.
import sys
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FunctionType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.core.watch import loops
from tests.core.watch.loops import STEPS, T, TinyModel, V, batch, start
from tui_lab.core import commands as cmd
from tui_lab.core import events as ev
from tui_lab.core.config.script import ScriptConfig, live_keys
from tui_lab.core.config.script import values_of as script_values
from tui_lab.core.watch import checkpoints
from tui_lab.core.watch.batch import batches
from tui_lab.core.watch.batch.recorded_batch import RecordedBatch, read_batch
from tui_lab.core.watch.recorder import MANY_SKIPPED
from tui_lab.core.watch.recording import Recording
from tui_lab.core.watch.steering.steering import StopRequested
from tui_lab.core.watch.watched_script import Given


@contextmanager
def recording(folder: Path, *commands: cmd.Command) -> Iterator[Recording]:
    """A recording that executes `commands` after the first step."""
    record = Recording.start("test", ["test.py"], folder / "run")
    for command in commands:
        record.boundary.control.commands.put(command)
    try:
        yield record
    except BaseException as error:
        record.end(error)
        raise
    finally:
        record.end()


def events_of(record: Recording) -> list[ev.Event]:
    return list(record.run.events())


def steps_of(record: Recording) -> list[ev.StepDone]:
    return [event for event in record.run.events() if isinstance(event, ev.StepDone)]


def weights(model: nn.Module) -> list[Tensor]:
    return [p.detach() for p in model.parameters()]


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        _, loss = model(*batch(step))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()


@pytest.mark.parametrize("name", loops.LOOPS)
def test_recorded_losses_are_those_of_the_loop_and_its_weights_stay(name: str, tmp_path: Path) -> None:
    alone = loops.LOOPS[name]()
    with recording(tmp_path) as record:
        watched = loops.LOOPS[name]()
    assert all(torch.equal(a, b) for a, b in zip(weights(alone.model), weights(watched.model), strict=True))
    steps = steps_of(record)
    assert [step.loss for step in steps] == pytest.approx(watched.losses, abs=1e-6)
    assert [step.step for step in steps] == list(range(1, STEPS + 1))
    if watched.lrs:
        assert [step.lr for step in steps] == watched.lrs
    if watched.norms:
        assert [step.grad_norm for step in steps] == pytest.approx(watched.norms)
    assert not [event for event in record.run.events() if isinstance(event, ev.Warned)]


def test_time_of_the_first_step_is_not_known(tmp_path: Path) -> None:
    with recording(tmp_path) as record:
        loops.two_optimizers()
    first, *others = steps_of(record)
    assert first.seconds == first.tokens_per_s == 0
    assert all(step.seconds > 0 and step.tokens_per_s > 0 for step in others)


def test_run_begins_with_what_was_found_of_the_script(tmp_path: Path) -> None:
    with recording(tmp_path) as record:
        loops.clipping_with_schedule()
    started = next(event for event in record.run.events() if isinstance(event, ev.Started))
    config = record.run.config()
    assert isinstance(config, ScriptConfig)
    assert started.parameters == sum(p.numel() for p in TinyModel().parameters())
    assert started.n_vocab == V
    assert (config.model.name, config.model.dropout, config.model.context) == ("TinyModel", 0.25, T)
    assert (config.optim.name, config.optim.lr, config.optim.grad_clip) == ("SGD", 0.1, 0.1)
    assert config.optim.weight_decay is None, "this optimizer has none"
    assert config.train.unit == "tokens"


def test_size_of_the_vocabulary_is_that_of_the_tokenizer_if_no_loss_function_shows_it(tmp_path: Path) -> None:
    itos = {i: chr(97 + i) for i in range(V)}
    with recording(tmp_path) as record:
        model = start()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for step in range(2):
            x, y = batch(step)
            (-model(x)[0].log_softmax(-1).gather(2, y[..., None]).mean()).backward()
            optimizer.step()
    assert len(itos) == next(event for event in record.run.events() if isinstance(event, ev.Started)).n_vocab


def test_dead_units_are_those_of_relu_modules(tmp_path: Path) -> None:
    with recording(tmp_path) as record:
        model = start()
        layer = model.hidden[0]
        assert isinstance(layer, nn.Linear)
        with torch.no_grad():
            layer.weight.zero_()
            layer.bias.fill_(1.0)
            layer.bias[:4] = -1.0  # 4 of 16 units never fire.
        train(model, torch.optim.SGD(model.parameters(), lr=1e-9), range(STEPS))
        assert not model.hidden[1]._forward_hooks
    measured = [step.dead_units for step in steps_of(record) if step.dead_units is not None]
    assert measured == [pytest.approx(0.25)]


def test_gradients_of_a_scripts_layers_are_measured(tmp_path: Path) -> None:
    with recording(tmp_path) as record:
        model = start()
        model.hidden[2].p = 0.0  # type: ignore[assignment]
        optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
        for _ in range(STEPS):  # Every step has the same gradient.
            train(model, optimizer, range(1))
    x, y = batch(0)
    model.zero_grad()
    loss = model(x, y)[1]
    loss.backward()
    expected = {}
    for i in (0, 3):
        gradients = [p.grad.double() for p in model.hidden[i].parameters() if p.grad is not None]
        expected[f"hidden.{i}"] = math.sqrt(sum(float((gradient**2).sum()) for gradient in gradients))
    measured = [step.by_layer for step in steps_of(record) if step.by_layer]
    assert [each["grad_norm"] for each in measured if "grad_norm" in each] == [pytest.approx(expected, rel=1e-3)]
    assert [set(each["dead_units"]) for each in measured if "dead_units" in each] == [{"hidden.1"}]


def recorded_batch(record: Recording) -> RecordedBatch:
    recorded = read_batch(record.run.path)
    assert recorded is not None
    return recorded


def test_batch_is_recorded_with_its_targets_and_history(tmp_path: Path) -> None:
    with recording(tmp_path, cmd.Step(STEPS)) as record:
        model = start()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        record.recorder.batches.always = True
        for _ in range(STEPS):
            train(model, optimizer, range(1))
    recorded = recorded_batch(record)
    x, y = batch(0)
    assert recorded.x is not None and recorded.y is not None and recorded.losses is not None
    assert (recorded.x == x.numpy()).all() and (recorded.y == y.numpy()).all()
    assert recorded.losses.shape == (4, T)
    assert recorded.history is not None
    assert (recorded.history.last_step == STEPS - 2).all(), "each step had the same rows"


def test_rows_that_do_not_come_back_are_new(tmp_path: Path) -> None:
    with recording(tmp_path) as record:
        record.recorder.batches.always = True
        loops.plain()
    history = recorded_batch(record).history
    assert history is not None
    assert (history.last_step == -1).all() and (history.times == 1).all()
    assert (history.recent_new == 1).all()


def test_model_without_tokens_counts_samples(tmp_path: Path) -> None:
    with recording(tmp_path) as record:
        torch.manual_seed(0)
        model = nn.Linear(3, 2)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(STEPS):
            loss = F.mse_loss(model(torch.ones(5, 3)), torch.zeros(5, 2))
            torch.autograd.backward(loss)
            optimizer.step()
    config = record.run.config()
    assert isinstance(config, ScriptConfig) and config.train.unit == "samples"
    assert steps_of(record)[-1].tokens == 5 * STEPS
    recorded = recorded_batch(record)
    assert recorded.x is None and recorded.x_shape.startswith("[5, 3]")


def test_evaluations_belong_to_the_step_before_them(tmp_path: Path) -> None:
    seen: list[float] = []

    @torch.no_grad()
    def estimate(model: nn.Module) -> None:
        for split in ("train", "val"):
            losses = [model(*batch(100 + i))[1].item() for i in range(3)]
            if split == "val":
                seen.append(sum(losses) / 3)

    with recording(tmp_path) as record:
        model = start()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for step in range(STEPS):
            if step % 3 == 0:
                estimate(model)
            train(model, optimizer, range(step, step + 1))
        estimate(model)
    evaluated = [event for event in record.run.events() if isinstance(event, ev.Evaluated)]
    assert [event.step for event in evaluated] == [0, 3, STEPS]
    assert [event.val_loss for event in evaluated] == pytest.approx(seen)
    logged = [event for event in record.run.events() if isinstance(event, ev.Logged)]
    assert [list(event.values) for event in logged] == [["loss train"]] * 3


class ModelInAWrapper(nn.Module):
    """A module that owns the model but is never called, as the module of a training framework."""

    def __init__(self) -> None:
        super().__init__()
        self.model = TinyModel()


def test_model_is_the_outermost_module_that_is_called(tmp_path: Path) -> None:
    with recording(tmp_path) as record:
        wrapper = ModelInAWrapper()
        train(wrapper.model, torch.optim.SGD(wrapper.parameters(), lr=0.1), range(STEPS))
        assert record.recorder.script.finder.model is wrapper.model


def test_model_can_be_copied_and_pickled_while_watched(tmp_path: Path) -> None:
    with recording(tmp_path) as record:
        model = start()
        train(model, torch.optim.SGD(model.parameters(), lr=0.1), range(STEPS))
        twin = copy.deepcopy(model)
        assert torch.equal(pickle.loads(pickle.dumps(model)).head.weight, model.head.weight)  # noqa: S301
        twin(*batch(0))
    assert len(steps_of(record)) == STEPS


def test_hooks_are_gone_after_the_end(tmp_path: Path) -> None:
    before = (F.cross_entropy, torch.autograd.backward, nn.utils.clip_grad_norm_, TinyModel.__call__)
    with recording(tmp_path):
        loops.plain()
        assert F.cross_entropy is not before[0]
    assert (F.cross_entropy, torch.autograd.backward, nn.utils.clip_grad_norm_, TinyModel.__call__) == before


def test_script_can_compile_losses_with_torchscript(tmp_path: Path) -> None:
    def loss(logits: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(logits, targets)

    @torch.jit.ignore  # type: ignore[untyped-decorator]  # noqa: TID251
    def only_in_this_frame(tensor: Tensor) -> Tensor:
        return tensor

    with recording(tmp_path), pytest.warns(DeprecationWarning):
        scripted = torch.jit.script(loss)  # noqa: TID251

        class Pair:
            def __init__(self, first: Tensor) -> None:
                self.first = only_in_this_frame(first)

        torch.jit.script(Pair)  # noqa: TID251
        assert scripted(torch.zeros(2, 3), torch.zeros(2, dtype=torch.int64)).item() == pytest.approx(math.log(3))


def test_forked_child_is_not_recorded(tmp_path: Path) -> None:
    with recording(tmp_path) as record:
        loops.plain(2)
        pid = os.fork()
        if pid == 0:
            loops.plain(5)
            os._exit(0 if record.n_steps == 1 else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert len(steps_of(record)) == 2


def test_skipped_step_is_no_step(tmp_path: Path) -> None:
    with recording(tmp_path) as record:
        model = start()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**4)
        for step in range(STEPS):
            _, loss = model(*batch(step))
            scaler.scale(loss * (math.inf if step == 3 else 1.0)).backward()
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
    steps = steps_of(record)
    assert len(steps) == STEPS - 1
    assert all(math.isfinite(step.loss) for step in steps)
    assert steps[-1].extra is not None and steps[-1].extra["skipped_steps"] == 1
    assert steps[-1].extra["loss_scale"] == 2.0**3


def test_steps_that_are_always_skipped_are_warned_of_twice(tmp_path: Path) -> None:
    with recording(tmp_path) as record:
        model = start()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        scaler = torch.amp.GradScaler("cpu")
        for step in range(MANY_SKIPPED + 5):
            _, loss = model(*batch(step))
            scaler.scale(loss * (math.inf if step >= 3 else 1.0)).backward()
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
    warnings = [event for event in record.run.events() if isinstance(event, ev.Warned)]
    assert [warning.step for warning in warnings] == [3, 3]
    assert str(MANY_SKIPPED) in warnings[1].message


def test_error_in_a_hook_is_recorded_once_and_the_script_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with recording(tmp_path) as record:

        def fail(loss: Tensor) -> None:
            raise ValueError("a bug of ours")

        monkeypatch.setattr(record.recorder, "backward", fail)
        trained = loops.plain()
    assert len(trained.losses) == STEPS
    warnings = [event for event in record.run.events() if isinstance(event, ev.Warned)]
    assert len(warnings) == 1 and "a bug of ours" in warnings[0].message


def test_exception_is_recorded_with_its_traceback_and_the_last_state(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), recording(tmp_path) as record:
        loops.plain()
        raise ZeroDivisionError("of the script")
    events = events_of(record)
    assert isinstance(events[-2], ev.Saved)
    failed = events[-1]
    assert isinstance(failed, ev.Failed)
    assert "of the script" in failed.message and "Traceback" in failed.details


def test_run_without_a_step_says_why(tmp_path: Path) -> None:
    with recording(tmp_path) as record:
        start()(*batch(0))
    assert record.problem
    warned, stopped = record.run.events()
    assert isinstance(warned, ev.Warned) and warned.message == record.problem and isinstance(stopped, ev.Stopped)


def changes_of(record: Recording) -> list[tuple[str, object, object]]:
    return [(event.key, event.old, event.new) for event in record.run.events() if isinstance(event, ev.Changed)]


def test_lr_factor_multiplies_the_schedule_and_undo_takes_it_away(tmp_path: Path) -> None:
    double = cmd.Scale("optim.lr_factor", 2.0)
    with recording(tmp_path, double, double, double, cmd.Undo()) as record:
        trained = loops.clipping_with_schedule()
    steps = steps_of(record)
    assert [step.lr for step in steps] == pytest.approx([trained.lrs[0], *(4 * lr for lr in trained.lrs[1:])])
    assert steps[-1].extra is not None and steps[-1].extra["script_lr"] == pytest.approx(trained.lrs[-1])
    assert [new for _, _, new in changes_of(record)] == [2.0, 4.0, 8.0, 4.0]


def test_steered_step_is_the_step_of_an_optimizer_with_those_values(tmp_path: Path) -> None:
    model = start()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.1)
    train(model, optimizer, range(1))
    optimizer.param_groups[0]["lr"] = 3e-2
    optimizer.param_groups[0]["weight_decay"] = 0.5
    train(model, optimizer, range(1, STEPS))

    commands = (cmd.Scale("optim.lr_factor", 3.0), cmd.Set("optim.weight_decay", 0.5))
    with recording(tmp_path, *commands):
        steered = start()
        own = torch.optim.AdamW(steered.parameters(), lr=1e-2, weight_decay=0.1)
        train(steered, own, range(STEPS))
    assert own.param_groups[0]["lr"] == 1e-2 and own.param_groups[0]["weight_decay"] == 0.1
    for ours, theirs in zip(weights(steered), weights(model), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_clipping_can_be_added_to_a_script_that_does_not_clip(tmp_path: Path) -> None:
    with recording(tmp_path, cmd.Set("optim.grad_clip", 1e-9)) as record:
        loops.plain()  # The command takes effect after its first step.
        moved = start()
        optimizer = torch.optim.SGD(moved.parameters(), lr=1.0)
        before = [w.clone() for w in weights(moved)]
        train(moved, optimizer, range(1))
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(before, weights(moved), strict=True))
    assert changes_of(record) == [("optim.grad_clip", 0.0, 1e-9)]


def test_dropout_changes_every_layer_and_undo_restores_each(tmp_path: Path) -> None:
    with recording(tmp_path, cmd.Shift("model.dropout", 0.25), cmd.Undo(), cmd.Set("model.dropout", 0.75)):
        model = start()
        other = nn.Dropout(0.1)
        model.hidden.append(other)
        rates: list[list[float]] = []
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for step in range(3):
            train(model, optimizer, range(step, step + 1))
            rates.append([module.p for module in model.modules() if isinstance(module, nn.Dropout)])
    assert rates == [[0.25, 0.1], [0.75, 0.75], [0.75, 0.75]]


def test_setting_that_a_script_does_not_have_is_refused(tmp_path: Path) -> None:
    with recording(tmp_path, cmd.Set("train.batch_size", 8), cmd.Evaluate()) as record:
        loops.plain()
    warnings = [event for event in record.run.events() if isinstance(event, ev.Warned)]
    assert len(warnings) == 2 and not changes_of(record)


def test_stop_passes_the_handlers_of_errors_and_runs_the_cleanup(tmp_path: Path) -> None:
    cleaned = []
    with pytest.raises(StopRequested), recording(tmp_path, cmd.Stop()) as record:
        try:
            loops.plain()
        except Exception:
            pytest.fail("a stop is not an error")
        finally:
            cleaned.append(True)
    assert cleaned
    assert events_of(record)[-1] == ev.Stopped(step=1, reason="stopped")


@pytest.mark.parametrize("exits", [False, True])
def test_stop_that_the_script_catches_is_no_failure(exits: bool, tmp_path: Path) -> None:
    """As Lightning does, which then calls sys.exit(1)."""
    with contextlib.suppress(SystemExit), recording(tmp_path, cmd.Stop()) as record:
        try:
            loops.plain()
        except KeyboardInterrupt:
            if exits:
                sys.exit(1)
    assert events_of(record)[-1] == ev.Stopped(step=1, reason="stopped")


def test_checkpoint_continues_the_training(tmp_path: Path) -> None:
    model = start().eval()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    with recording(tmp_path) as record:
        train(model, optimizer, range(3))
    path = record.run.latest()
    twin = start().eval()
    twin.load_state_dict(checkpoints.load_model(path))
    other = torch.optim.AdamW(twin.parameters(), lr=5e-1)
    checkpoints.load_optimizer(other, path)
    train(model, optimizer, range(3, STEPS))
    train(twin, other, range(3, STEPS))
    assert all(torch.equal(a, b) for a, b in zip(weights(model), weights(twin), strict=True))


def test_models_of_earlier_trainings_are_not_kept(tmp_path: Path) -> None:
    with recording(tmp_path) as record:
        models = []
        for _ in range(2):
            model = start()
            optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
            train(model, optimizer, range(STEPS))
            assert record.recorder.script.finder.model is model
            models.append(weakref.ref(model))
            del model, optimizer
            gc.collect()
        assert [model() for model in models] == [None] * 2
    assert len(steps_of(record)) == 2 * STEPS


def test_variables_of_the_training_function_are_not_kept(tmp_path: Path) -> None:
    with recording(tmp_path):
        model = start()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        first = torch.zeros(1000)
        kept = weakref.ref(first)
        train(model, optimizer, range(3))
        del first
        assert kept() is None


def test_failed_step_does_not_leave_its_changes(tmp_path: Path) -> None:
    class Failing(torch.optim.SGD):
        fails = False

        def step(self, closure: Any = None) -> None:  # type: ignore[override]
            if self.fails:
                raise ValueError("of the script")
            super().step(closure)

    with recording(tmp_path, cmd.Scale("optim.lr_factor", 0.5)) as record:
        model = start()
        optimizer = Failing(model.parameters(), lr=1.0)
        train(model, optimizer, range(3))
        optimizer.fails = True
        for step in range(3):
            with pytest.raises(ValueError, match="of the script"):
                train(model, optimizer, range(step, step + 1))
        optimizer.fails = False
        train(model, optimizer, range(2))
        assert optimizer.param_groups[0]["lr"] == 1.0
    assert steps_of(record)[-1].lr == 0.5


def test_accumulated_loss_with_a_further_term_is_its_mean(tmp_path: Path) -> None:
    losses = []
    with recording(tmp_path) as record:
        model = start()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for step in range(STEPS):
            total = 0.0
            for part in range(4):
                _, loss = model(*batch(10 * step + part))
                whole = loss + 5.0
                total += whole.item() / 4
                (whole / 4).backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(total)
    assert [step.loss for step in steps_of(record)] == pytest.approx(losses)


def test_losses_of_other_optimizers_do_not_count(tmp_path: Path) -> None:
    model = start()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    other = nn.Linear(2, 1)
    other_optimizer = torch.optim.SGD(other.parameters(), lr=0.1)
    losses = []
    with recording(tmp_path) as record:
        record.recorder.script.given = Given(model, (optimizer,))
        for step in range(STEPS):
            torch.autograd.backward(other(torch.ones(1, 2)).sum() + 100.0)
            other_optimizer.step()
            _, loss = model(*batch(step))
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
    assert [step.loss for step in steps_of(record)] == pytest.approx(losses)


def test_metric_of_a_training_batch_is_no_evaluation(tmp_path: Path) -> None:
    with recording(tmp_path) as record:
        model = start()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for step in range(STEPS):
            x, y = batch(step)
            logits, loss = model(x, y)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            if step > 1:
                F.cross_entropy(logits.detach().flatten(0, 1), y.flatten())
    assert not [event for event in record.run.events() if isinstance(event, ev.Evaluated)]


def test_gradients_by_autograd_grad_have_the_loss_of_the_loss_function(tmp_path: Path) -> None:
    losses = []
    with recording(tmp_path) as record:
        model = start()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for step in range(STEPS):
            _, loss = model(*batch(step))
            for parameter, gradient in zip(
                model.parameters(), torch.autograd.grad(loss, list(model.parameters())), strict=True
            ):
                parameter.grad = gradient
            optimizer.step()
            losses.append(loss.item())
    assert [step.loss for step in steps_of(record)] == pytest.approx(losses)


def test_module_with_its_own_parameters_method_does_not_stop_recording(tmp_path: Path) -> None:
    class Odd(nn.Module):
        def parameters(self, lr: float) -> Any:  # type: ignore[override]
            return []

    odd = Odd()
    with recording(tmp_path) as record:
        loops.plain()
    assert odd is not None
    assert len(steps_of(record)) == STEPS


def test_traced_graph_has_the_calls_of_modules(tmp_path: Path) -> None:
    model = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = [node.op for node in torch.fx.symbolic_trace(nn.Sequential(nn.Linear(3, 2))).graph.nodes]
    with recording(tmp_path):
        for _ in range(3):
            torch.autograd.backward(F.mse_loss(model(torch.ones(5, 3)), torch.zeros(5, 2)))
            optimizer.step()
        traced = torch.fx.symbolic_trace(nn.Sequential(nn.Linear(3, 2)))
    assert [node.op for node in traced.graph.nodes] == before


def test_batch_of_the_first_step_is_recorded_before_a_pause(tmp_path: Path) -> None:
    """The model is not known until the end of that step, but autograd has the ids."""
    model = start()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    with recording(tmp_path) as record:
        train(model, optimizer, range(1))
        batch_of_step = read_batch_of(record)
    x, y = batch(0)
    assert batch_of_step.step == 0 and batch_of_step.losses is not None
    assert batch_of_step.x is not None and batch_of_step.x.tolist() == x.tolist()
    assert batch_of_step.y is not None and batch_of_step.y.tolist() == y.tolist()
    steps = steps_of(record)
    assert steps[0].tokens == x.numel()


def test_batch_of_the_first_step_of_a_given_model_is_recorded(tmp_path: Path) -> None:
    model = nn.Linear(3, 2)
    record = Recording.start("test", ["test.py"], tmp_path / "run", Given(model))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model(torch.ones(4, 3)).square().mean().backward()
    optimizer.step()
    recorded_batch = read_batch_of(record)
    assert (recorded_batch.step, recorded_batch.x_shape) == (0, "[4, 3] float32")


def read_batch_of(record: Recording) -> RecordedBatch:
    """End a recording, and return its batch."""
    record.end()
    recorded = read_batch(record.run.path)
    assert recorded is not None
    return recorded


def test_batch_of_the_step_before_a_command_is_recorded(tmp_path: Path) -> None:
    model = start()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with recording(tmp_path) as record:
        train(model, optimizer, range(STEPS))
        record.boundary.control.commands.put(cmd.Save())
        train(model, optimizer, range(STEPS, STEPS + 1))
    recorded = read_batch(record.run.path)
    assert recorded is not None and recorded.step == STEPS


@pytest.mark.parametrize("is_held", [True, False])
def test_batch_is_recorded_if_a_command_comes_after_the_call_of_the_model(
    is_held: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its losses are, too, unless the logits are too large to be held."""
    if not is_held:
        monkeypatch.setattr(batches, "MAX_HELD_BYTES", 0)
    with recording(tmp_path) as record:
        model = start()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        train(model, optimizer, range(STEPS))
        logits = model(batch(STEPS)[0])[0].flatten(0, 1)
        losses = F.cross_entropy(logits, batch(STEPS)[1].flatten(), reduction="none")
        losses.mean().backward()  # type: ignore[no-untyped-call]
        record.boundary.control.commands.put(cmd.Save())
        optimizer.step()
    recorded = recorded_batch(record)
    assert recorded.step == STEPS and recorded.x is not None and recorded.y is not None
    assert (recorded.x == batch(STEPS)[0].numpy()).all() and (recorded.y == batch(STEPS)[1].numpy()).all()
    assert (recorded.losses is not None) == is_held
    if recorded.losses is not None:
        assert recorded.losses.flatten().tolist() == pytest.approx(losses.tolist(), rel=1e-5)


def test_logits_that_the_script_has_changed_are_not_measured(tmp_path: Path) -> None:
    with recording(tmp_path) as record:
        model = start()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        train(model, optimizer, range(STEPS))
        logits = model(batch(STEPS)[0])[0].flatten(0, 1)
        F.cross_entropy(logits, batch(STEPS)[1].flatten()).backward()  # type: ignore[no-untyped-call]
        with torch.no_grad():
            logits.fill_(0.0)
        record.boundary.control.commands.put(cmd.Save())
        optimizer.step()
    recorded = recorded_batch(record)
    assert recorded.step == STEPS and recorded.y is not None and recorded.losses is None


class Classifier(TinyModel):
    """Token ids [B, T] → logits of one class for each row [B, V]."""

    def forward(self, x: Tensor, y: Tensor | None = None) -> Any:
        return self.head(self.hidden(self.embedding(x)).mean(dim=1))


def test_first_step_counts_tokens_where_its_loss_has_a_target_for_each_row(tmp_path: Path) -> None:
    with recording(tmp_path) as record:
        model = Classifier()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for step in range(3):
            x, y = batch(step)
            F.cross_entropy(model(x), y[:, 0]).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    assert [step.tokens for step in steps_of(record)] == [4 * T, 8 * T, 12 * T]


def test_script_of_several_processes_is_not_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with recording(tmp_path, cmd.Scale("optim.lr_factor", 2.0), cmd.Shift("model.dropout", 0.1)) as record:
        loops.plain()
    config = record.run.config()
    assert isinstance(config, ScriptConfig) and config.train.processes == 2
    assert live_keys(config) == [] and script_values(config)["train.processes"] == 2
    assert not changes_of(record)
    assert len([event for event in record.run.events() if isinstance(event, ev.Warned)]) == 2


class TwoLayers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(3, 3), nn.Linear(3, 3)])

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


def layer_norms(model: TwoLayers) -> list[float]:
    return [
        math.hypot(*(float(p.grad.norm()) for p in layer.parameters() if p.grad is not None)) for layer in model.layers
    ]


@pytest.mark.parametrize("in_parts", [False, True])
def test_gradient_norms_of_layers_are_those_before_clipping(in_parts: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = TwoLayers()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    record = Recording.start("test", ["test.py"], tmp_path / "run", Given(model=model))
    norms = []
    for _ in range(2):
        optimizer.zero_grad()
        torch.autograd.backward(F.mse_loss(100 * model(torch.ones(2, 3)), torch.zeros(2, 3)))
        norms.append(layer_norms(model))
        for part in model.layers if in_parts else [model]:
            nn.utils.clip_grad_norm_(part.parameters(), 1.0)
        optimizer.step()
    record.end()
    ((step, by_layer),) = [(step.step, step.by_layer["grad_norm"]) for step in steps_of(record) if step.by_layer]
    assert list(by_layer.values()) == pytest.approx(norms[step - 1], rel=1e-3)


def _warm_up(optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LambdaLR:
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: step / 10)


def _cycle(optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.OneCycleLR:
    return torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.02, total_steps=10)


def _set_by_the_loop(optimizer: torch.optim.Optimizer) -> None:
    for group in optimizer.param_groups:
        group["lr"] = 1e-6


@pytest.mark.parametrize("schedule", [_warm_up, _cycle, _set_by_the_loop])
def test_rate_of_the_config_is_not_that_of_the_first_step_of_a_warm_up(schedule: Any, tmp_path: Path) -> None:
    with recording(tmp_path) as record:
        model = start()
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.02)
        schedule(optimizer)
        train(model, optimizer, range(1))
    assert steps_of(record)[0].lr < 0.001
    assert record.run.config().optim.lr == pytest.approx(0.02)


def test_rate_of_a_group_is_not_replaced_by_the_default_of_torch(tmp_path: Path) -> None:
    with recording(tmp_path) as record:
        model = start()
        train(model, torch.optim.AdamW([{"params": list(model.parameters()), "lr": 1e-5}]), range(1))
    assert record.run.config().optim.lr == pytest.approx(1e-5)


class TrainerLike:
    """What is read of a transformers Trainer: two epochs of three steps."""

    def __init__(self) -> None:
        self.state = SimpleNamespace(max_steps=-1, epoch=None)

    def train(self, one_step: Callable[[], None]) -> None:
        self.state = SimpleNamespace(max_steps=6, epoch=0)
        for step in range(6):
            one_step()
            self.state.epoch = (step + 1) / 3


def test_trainer_of_transformers_tells_its_steps_and_epochs(tmp_path: Path) -> None:
    run_loop = FunctionType(TrainerLike.train.__code__, {**globals(), "__name__": "transformers.trainer"})
    with recording(tmp_path) as record:
        model = start()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        run_loop(TrainerLike(), lambda: train(model, optimizer, range(1)))
    assert [step.epoch for step in steps_of(record)] == [0, 0, 0, 1, 1, 1]
    started = next(event for event in record.run.events() if isinstance(event, ev.Started))
    assert started.steps == 6

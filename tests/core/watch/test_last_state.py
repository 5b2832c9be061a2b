"""The checkpoint at the end of a script, whose model and optimizer may be gone by then, as those in `main()`."""

import gc
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import tui_lab
from tests.core.watch.loops import batch, start
from tui_lab.core import events as ev
from tui_lab.core.watch import checkpoints, last_state
from tui_lab.core.watch.last_state import LastState
from tui_lab.core.watch.recording import Recording
from tui_lab.util.errors import RunError

State = dict[str, Tensor]


def train(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    for step in range(3):
        _, loss = model(*batch(step))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def model_first() -> tuple[State, State]:
    model = start()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    train(model, optimizer)
    return copied(model.state_dict()), first_state(optimizer)


def optimizer_first() -> tuple[State, State]:
    optimizer: torch.optim.Optimizer | None = None
    model = start()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    train(model, optimizer)
    return copied(model.state_dict()), first_state(optimizer)


def with_schedule() -> tuple[State, State]:
    """A schedule makes the optimizer part of a reference cycle, which the garbage collector frees."""
    model = start()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
    train(model, optimizer)
    return copied(model.state_dict()), first_state(optimizer)


def with_own_parameters() -> tuple[State, State]:
    """The model itself has a parameter and buffers, of which one is not saved."""

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = start()
            self.scale = nn.Parameter(torch.ones(1))
            self.register_buffer("saved", torch.ones(2))
            self.register_buffer("unsaved", torch.ones(2), persistent=False)

        def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
            logits, loss = self.inner(x, y)
            return logits, loss * self.scale.sum()

    model = Model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    train(model, optimizer)
    return copied(model.state_dict()), first_state(optimizer)


def copied(weights: State) -> State:
    return {name: tensor.clone() for name, tensor in weights.items()}


def first_state(optimizer: torch.optim.Optimizer) -> State:
    return copied(optimizer.state_dict()["state"][0])


def saved(record: Recording) -> list[ev.Saved]:
    return [event for event in record.run.events() if isinstance(event, ev.Saved)]


def leftovers(record: Recording) -> list[Path]:
    return [path for path in record.run.checkpoints.iterdir() if not path.name.startswith("step-")]


@pytest.mark.parametrize("main", [model_first, optimizer_first, with_schedule, with_own_parameters])
@pytest.mark.parametrize("collects", [False, True])
def test_state_of_a_model_that_is_gone_is_saved(
    main: Callable[[], tuple[State, State]], collects: bool, tmp_path: Path
) -> None:
    record = Recording.start("test", ["test.py"], tmp_path / "run")
    weights, state = main()
    if collects:
        gc.collect()
    record.end()
    (event,) = saved(record)
    path = record.run.path / event.path
    loaded = checkpoints.load_model(path)
    assert event.step == 3
    assert loaded.keys() == weights.keys()
    assert all(torch.equal(loaded[name], weights[name]) for name in weights)
    tensors = load_file(path / "optimizer-0.safetensors")
    assert all(torch.equal(tensors[f"0/{name}"], state[name]) for name in state)
    assert not leftovers(record)


def test_nothing_is_kept_alive(tmp_path: Path) -> None:
    record = Recording.start("test", ["test.py"], tmp_path / "run")
    parameters = []
    for _ in range(2):
        model = start()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
        train(model, optimizer)
        parameters += [weakref.ref(parameter) for parameter in model.parameters()]
        del model, optimizer
        gc.collect()
    assert not any(parameter() is not None for parameter in parameters)
    record.end()
    assert [event.step for event in saved(record)] == [6]
    assert not leftovers(record)


def test_optimizer_of_an_earlier_training_is_not_saved(tmp_path: Path) -> None:
    """The script still has it, as where its schedule keeps it until the garbage collector comes."""
    record = Recording.start("test", ["test.py"], tmp_path / "run")
    optimizers = []
    for lr in (1e-2, 1e-3):
        model = start()
        optimizers.append(torch.optim.AdamW(model.parameters(), lr=lr))
        train(model, optimizers[-1])
    record.end()
    path = record.run.path / saved(record)[0].path
    assert [file.name for file in path.glob("optimizer-*.safetensors")] == ["optimizer-0.safetensors"]
    other = torch.optim.AdamW(start().parameters(), lr=1.0)
    checkpoints.load_optimizer(other, path)
    assert other.param_groups[0]["lr"] == 1e-3


def test_weights_before_the_last_step_are_not_the_last_ones(tmp_path: Path) -> None:
    """The wrapper that is the model for us is dropped, and the script trains what it wrapped."""

    class Wrapper(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
            logits, loss = self.inner(x, y)
            return logits, loss

    record = Recording.start("test", ["test.py"], tmp_path / "run")
    inner = start()
    wrapper = Wrapper(inner)
    optimizer = torch.optim.AdamW(inner.parameters(), lr=1e-2)
    train(wrapper, optimizer)
    del wrapper
    train(inner, optimizer)
    record.end()
    assert not saved(record)
    assert any(isinstance(event, ev.Warned) for event in record.run.events())
    assert not list(record.run.checkpoints.glob("*"))


def events_of(folder: Path) -> list[ev.Event]:
    return [ev.parse_event(line) for line in (folder / "events.jsonl").read_text("utf-8").splitlines()]


def test_model_that_cannot_be_saved_is_reported(tmp_path: Path) -> None:
    """An optimizer changes weights that belong to no module."""
    with tui_lab.watch(out=tmp_path / "run"):
        weights = torch.ones(3, requires_grad=True)
        optimizer = torch.optim.SGD([weights], lr=0.1)
        for _ in range(2):
            weights.square().sum().backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    events = events_of(tmp_path / "run")
    assert not any(isinstance(event, ev.Saved) for event in events)
    assert any(isinstance(event, ev.Warned) for event in events)
    assert not list((tmp_path / "run" / "checkpoints").glob("*"))


def test_loop_that_only_logs_its_steps_has_no_state_to_save(tmp_path: Path) -> None:
    with tui_lab.watch(out=tmp_path / "run") as run:
        run.step(loss=1.0)
    kinds = [event.kind for event in events_of(tmp_path / "run")]
    assert "step" in kinds and not {"saved", "warned"} & set(kinds)


def test_given_model_of_a_loop_that_logs_its_steps_is_saved(tmp_path: Path) -> None:
    with tui_lab.watch(nn.Linear(2, 2), out=tmp_path / "run") as run:
        run.step(loss=1.0)
    assert "saved" in [event.kind for event in events_of(tmp_path / "run")]


def new_training() -> tuple[nn.Module, torch.optim.Optimizer]:
    model = start()
    return model, torch.optim.AdamW(model.parameters(), lr=1e-2)


def train_and_drop(state: LastState) -> None:
    """Another training, of which the script keeps nothing."""
    state.forget()
    model, optimizer = new_training()
    train(model, optimizer)
    state.updated(model, optimizer)
    del model, optimizer
    gc.collect()


def test_small_states_that_are_dropped_are_not_written(tmp_path: Path) -> None:
    state = LastState(tmp_path)
    train_and_drop(state)
    assert not list(tmp_path.iterdir())
    assert {file.name for file in state.save(3).iterdir()} >= {"model.safetensors", "optimizer-0.safetensors"}


def test_writing_what_is_dropped_takes_a_share_of_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each write takes ten seconds here, and each training a second: of twelve, the first is written."""
    monkeypatch.setattr(last_state, "MAX_COPY", 0)
    now = [0.0]
    state = LastState(tmp_path, lambda: now[0])
    write_model = checkpoints.write_model

    def slow(folder: Path, weights: Mapping[str, Any]) -> None:
        now[0] += 10.0
        write_model(folder, weights)

    monkeypatch.setattr(checkpoints, "write_model", slow)
    n_written = []
    for _ in range(12):
        now[0] += 1.0
        train_and_drop(state)
        n_written.append(len(list(tmp_path.iterdir())))
    assert n_written == [2] + [0] * 11  # A model and an optimizer.
    with pytest.raises(RunError):
        state.save(3)
    now[0] += 200.0
    train_and_drop(state)
    assert state.save(3).is_dir()


def test_optimizers_that_are_made_again_and_again_leave_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a script makes a new optimizer for one of two models in each step."""
    monkeypatch.setattr(last_state, "MAX_COPY", 0)
    state = LastState(tmp_path, lambda: 0.0)
    model, first = new_training()
    train(model, first)
    for _ in range(3):
        _, second = new_training()
        state.updated(model, first)
        state.updated(model, second)
        del second
        gc.collect()
    assert len(list(tmp_path.iterdir())) <= 1
    state.forget()
    assert not list(tmp_path.iterdir())

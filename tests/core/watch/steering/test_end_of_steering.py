"""What the user asked for ends with the run: a stop is raised once, and nothing stays changed."""

from pathlib import Path

import pytest
import torch
from torch import nn

from tests.core.watch.loops import TinyModel, batch, start
from tests.core.watch.test_recorder import events_of, recording, steps_of, train
from tui_lab.core import commands as cmd
from tui_lab.core import events as ev
from tui_lab.core.watch.steering.steering import Steering, StopRequested


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.1)


def dropout_of(model: TinyModel) -> float:
    return next(module.p for module in model.modules() if isinstance(module, nn.Dropout))


def test_stop_is_raised_once_and_the_run_goes_on_if_the_script_does(tmp_path: Path) -> None:
    with recording(tmp_path, cmd.Stop()) as record:
        model = start()
        optimizer = sgd(model)
        with pytest.raises(StopRequested):
            train(model, optimizer, range(3))
        train(model, optimizer, range(3, 8))
    assert len(steps_of(record)) == 1 + 5
    last = events_of(record)[-1]
    assert isinstance(last, ev.Stopped) and last.reason == "done"


def test_stop_ends_the_pause_in_which_it_was_asked(tmp_path: Path) -> None:
    with recording(tmp_path, cmd.Pause(), cmd.Stop()) as record:
        model = start()
        optimizer = sgd(model)
        with pytest.raises(StopRequested):
            train(model, optimizer, range(3))
        train(model, optimizer, range(3, 5))
    kinds = [event.kind for event in events_of(record) if isinstance(event, ev.Paused | ev.Resumed)]
    assert kinds == ["paused", "resumed"]


def test_interrupt_during_a_pause_ends_the_pause(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with recording(tmp_path, cmd.Pause()) as record:
        control = record.boundary.control
        poll = control.poll

        def interrupted(*args: object, wait: bool = False) -> None:
            if wait:
                raise KeyboardInterrupt
            poll(*args)  # type: ignore[arg-type]

        monkeypatch.setattr(control, "poll", interrupted)
        model = start()
        with pytest.raises(KeyboardInterrupt):
            train(model, sgd(model), range(3))
        assert not control.paused
    assert [event.kind for event in events_of(record) if isinstance(event, ev.Resumed)] == ["resumed"]


def test_script_has_its_own_values_again_when_the_run_has_ended(tmp_path: Path) -> None:
    commands = (cmd.Scale("optim.lr_factor", 2.0), cmd.Set("optim.grad_clip", 1e-9), cmd.Set("model.dropout", 0.75))
    with recording(tmp_path, *commands) as record:
        model = start()
        train(model, sgd(model), range(3))
        assert dropout_of(model) == 0.75
    assert dropout_of(model) == 0.25
    assert record.recorder.steering.lr_factor == 1.0
    _, loss = model(*batch(0))
    loss.backward()
    before = [p.clone() for p in model.parameters()]
    sgd(model).step()
    assert not all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_dropout_is_changed_in_the_present_model_only() -> None:
    steering = Steering()
    first = start()
    second = start()
    steering.set_dropout(first, 0.5)
    steering.set_dropout(second, 0.75)
    assert (dropout_of(first), dropout_of(second)) == (0.25, 0.75)
    steering.release()
    assert dropout_of(second) == 0.25

"""The inspector: one request at a time, at a bounded share of the training time."""

from typing import Any

from tui_lab.app.session.inspector import TIME_SHARE, Inspector
from tui_lab.core import commands as cmd


class Trainer:
    """Keeps the commands, and runs an inspection when told to."""

    def __init__(self) -> None:
        self.commands: list[cmd.Command] = []

    def run(self) -> None:
        command = self.commands.pop(0)
        assert isinstance(command, cmd.Inspect)
        command.look("model")  # type: ignore[arg-type]


def request(inspector: Inspector[Any], key: object, now: float, *, running: bool = True) -> None:
    inspector.request(key, lambda model: (model, key), now, min_pause=1.0, running=running)


def test_results_come_back_with_their_keys() -> None:
    trainer = Trainer()
    inspector = Inspector[Any](trainer.commands.append)
    request(inspector, "a", 0.0)
    assert inspector.drain() == []
    trainer.run()
    [inspection] = inspector.drain()
    assert (inspection.key, inspection.result) == ("a", ("model", "a")) and inspector.drain() == []


def test_equal_and_early_requests_are_dropped() -> None:
    trainer = Trainer()
    inspector = Inspector[Any](trainer.commands.append)
    request(inspector, "a", 0.0)
    request(inspector, "a", 5.0)
    request(inspector, "b", 0.5)
    assert len(trainer.commands) == inspector.n_requests == 1
    request(inspector, "b", 1.0)
    assert inspector.n_requests == 2
    inspector.reset()
    request(inspector, "b", 1.0)
    assert inspector.n_requests == 3


def test_expensive_inspections_wait_longer_while_the_model_trains() -> None:
    times = iter([0.0, 0.1])
    trainer = Trainer()
    inspector = Inspector[Any](trainer.commands.append, lambda: next(times))
    request(inspector, 1, 0.0)
    trainer.run()
    inspector.drain()
    pause = 0.1 / TIME_SHARE
    request(inspector, 2, pause - 1.0)
    assert inspector.n_requests == 1
    request(inspector, 2, pause - 1.0, running=False)
    assert inspector.n_requests == 2, "a paused model loses no time"
    request(inspector, 3, 2 * pause)
    assert inspector.n_requests == 3

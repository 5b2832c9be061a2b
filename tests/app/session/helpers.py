"""Train real runs to their end and collect their messages."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.core.tiny import tiny
from tui_lab.app.session.messages import Ready, SessionFailed, SessionMessage
from tui_lab.app.session.replay import Replay
from tui_lab.app.session.session import Session
from tui_lab.app.session.source import Source
from tui_lab.core import commands as cmd
from tui_lab.core import events as ev
from tui_lab.core.runs import open_run

MAX_TURNS = 3000
SECONDS_A_TURN = 0.01


def wait_until(condition: Callable[[], bool]) -> None:
    """Give other threads time until `condition` holds."""
    tick = threading.Event()
    for _ in range(MAX_TURNS):
        if condition():
            return
        tick.wait(SECONDS_A_TURN)
    raise AssertionError("the condition was never met")


def collect(source: Source, until: Callable[[SessionMessage], bool]) -> list[SessionMessage]:
    """Return the messages up to the drain that has one for which `until` holds."""
    messages: list[SessionMessage] = []

    def drained() -> bool:
        messages.extend(source.drain())
        return any(until(message) for message in messages)

    wait_until(drained)
    return messages


def stopped(message: SessionMessage) -> bool:
    return isinstance(message, ev.Stopped | SessionFailed)


def close(source: Source) -> None:
    source.close()
    source.join()


def train(*overrides: str, commands: tuple[cmd.Command, ...] = ()) -> tuple[Session, list[SessionMessage]]:
    """Train the tiny model to the end; return the session, which still answers, and its messages."""
    session = Session(lambda report, queue: open_run.start("tiny", tiny(*overrides), commands=queue))
    for command in commands:
        session.send(command)
    session.start()
    return session, collect(session, stopped)


def trained(*overrides: str, commands: tuple[cmd.Command, ...] = ()) -> tuple[Ready, list[SessionMessage]]:
    """Train the tiny model and close the session; return its Ready message and all messages."""
    session, messages = train(*overrides, commands=commands)
    close(session)
    ready = messages[0]
    assert isinstance(ready, Ready)
    return ready, messages


def events(messages: list[SessionMessage]) -> list[ev.Event]:
    return [message for message in messages if isinstance(message, ev.Event)]


@contextmanager
def replaying(path: str, clock: Callable[[], float] = lambda: 0.0) -> Iterator[Replay]:
    """A replay of the run in `path`, closed at the end."""
    replay = Replay(path, clock)
    replay.start()
    yield replay
    close(replay)

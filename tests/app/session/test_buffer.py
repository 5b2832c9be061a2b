"""Buffer: in order, once, bounded, and safe between two threads."""

import threading

from hypothesis import given
from hypothesis import strategies as st

from tests.app.fake import update
from tui_lab.app.session.buffer import Buffer
from tui_lab.core import events as ev


def test_drain_returns_each_message_once_in_order() -> None:
    buffer = Buffer[ev.Event]()
    messages: list[ev.Event] = [update(1), ev.Paused(step=1), update(2)]
    for message in messages:
        buffer.put(message)
    assert buffer.drain() == messages and buffer.drain() == []


@given(st.integers(1, 400), st.integers(2, 50))
def test_full_buffer_drops_steps_and_nothing_else(n: int, limit: int) -> None:
    buffer = Buffer[ev.Event](limit)
    for step in range(1, n + 1):
        buffer.put(update(step, update_ratio=None))
        if step % 7 == 0:
            buffer.put(ev.Saved(step=step, path=""))
    messages = buffer.drain()
    steps = [message.step for message in messages if isinstance(message, ev.StepDone)]
    assert [message.step for message in messages if isinstance(message, ev.Saved)] == list(range(7, n + 1, 7))
    assert len(steps) <= limit + 1 and steps == sorted(steps)
    assert steps[-1] == n, "the newest step is never dropped"


def test_no_message_is_lost_between_two_threads() -> None:
    buffer = Buffer[int](10**6)

    def write() -> None:
        for number in range(5000):
            buffer.put(number)

    writer = threading.Thread(target=write)
    writer.start()
    numbers: list[int] = []
    while writer.is_alive():
        numbers += buffer.drain()
    assert numbers + buffer.drain() == list(range(5000))

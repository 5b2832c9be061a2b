import threading

from hypothesis import given
from hypothesis import strategies as st

from tests.app.fake import update
from tui_lab.app.session.buffer import Buffer
from tui_lab.core import events as ev


def test_what_was_put_comes_out_once_in_order() -> None:
    buffer = Buffer[ev.Event]()
    items: list[ev.Event] = [update(1), ev.Paused(step=1), update(2)]
    for item in items:
        buffer.put(item)
    assert buffer.drain() == items and buffer.drain() == []


@given(st.integers(1, 400), st.integers(2, 50))
def test_a_full_buffer_thins_updates_and_nothing_else(n: int, limit: int) -> None:
    buffer = Buffer[ev.Event](limit)
    for step in range(1, n + 1):
        buffer.put(update(step, update_ratio=None))
        if step % 7 == 0:
            buffer.put(ev.Saved(step=step, path=""))
    found = buffer.drain()
    updates = [item.step for item in found if isinstance(item, ev.StepDone)]
    assert [item.step for item in found if isinstance(item, ev.Saved)] == list(range(7, n + 1, 7))
    assert len(updates) <= limit + 1 and updates == sorted(updates)
    assert updates[-1] == n, "the newest is never let go"


def test_two_threads_lose_nothing() -> None:
    buffer = Buffer[int](10**6)
    found: list[int] = []
    writer = threading.Thread(target=lambda: [buffer.put(i) for i in range(5000)])  # type: ignore[func-returns-value]
    writer.start()
    while writer.is_alive():
        found += buffer.drain()
    assert found + buffer.drain() == list(range(5000))

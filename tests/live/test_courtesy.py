"""What works in the app's process lets the app's own thread go first."""

import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.core.tiny import tiny
from tui_lab import opening
from tui_lab.live.courtesy import NICER_BY, give_way
from tui_lab.live.session import Report, Session
from tui_lab.opening import Opened

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a niceness for each thread")


def niceness() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


def test_a_thread_that_gives_way_is_nicer_with_all_it_starts_and_no_other_is() -> None:
    before = niceness()

    def work() -> tuple[int, int]:
        give_way()
        with ThreadPoolExecutor(1) as started:
            return niceness(), started.submit(niceness).result()

    with ThreadPoolExecutor(1) as thread:
        assert thread.submit(work).result() == (min(19, before + NICER_BY),) * 2
    assert niceness() == before


def test_a_training_under_the_app_gives_way() -> None:
    seen = []

    def begin(report: Report) -> Opened:
        seen.append(niceness())
        return opening.begin("tiny", tiny())

    session = Session(begin)
    session.start()
    session.close()
    session.join()
    assert seen == [min(19, niceness() + NICER_BY)]

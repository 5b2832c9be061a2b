"""A signal that ends a watched script ends the recording first, and the script sees nothing of it."""

import signal
import subprocess
import sys
from collections.abc import Callable

import pytest

BEGIN = """
import os, signal, sys, threading, time
from tui_lab.core.watch.process import terminating_signals
from tui_lab.core.watch.process.terminating_signals import TerminatingSignals
busy = []
signals = TerminatingSignals(lambda number: print("end", number, flush=True), lambda: bool(busy))
signals.handle()
signals.watch()
def kill(number=signal.SIGTERM): os.kill(os.getpid(), number)
"""
End = Callable[[str], tuple[int, list[str]]]


@pytest.fixture
def ended() -> End:
    """`ended(code)` runs code in a process; returns its exit code and the lines that it printed."""

    def run(code: str) -> tuple[int, list[str]]:
        # Python 3.12 and later warn where a process with threads forks.
        command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", BEGIN + code]
        done = subprocess.run(command, capture_output=True, check=False, text=True)
        assert not done.stderr
        return done.returncode, done.stdout.splitlines()

    return run


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_the_recording_ends_first_and_then_the_process_by_the_signal(number: int, ended: End) -> None:
    assert ended(f"kill({number}); print('after')") == (-number, [f"end {number}"])


def test_the_script_sees_the_default_handler(ended: End) -> None:
    code = """
assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
previous = signal.signal(signal.SIGTERM, lambda number, frame: print("own"))
assert previous is signal.SIG_DFL
kill()
signal.signal(signal.SIGTERM, previous)
kill()
"""
    assert ended(code) == (-signal.SIGTERM, ["own", "end 15"])


def test_a_signal_that_the_script_ignores_does_nothing(ended: End) -> None:
    assert ended("signal.signal(signal.SIGTERM, signal.SIG_IGN); kill(); print('continues')") == (0, ["continues"])


def test_a_signal_waits_while_the_recorder_is_at_work(ended: End) -> None:
    code = "busy.append(1); kill(); print('at work', flush=True); busy.clear(); time.sleep(60)"
    assert ended(code) == (-signal.SIGTERM, ["at work", "end 15"])


def test_a_main_thread_that_waits_outside_of_python_does_not_keep_the_process(ended: End) -> None:
    code = """
terminating_signals.SECONDS_TO_REACH = 0.2
busy.append(1)  # For ever: as if the handler was never called.
kill()
time.sleep(60)
"""
    assert ended(code) == (128 + signal.SIGTERM, ["end 15"])


def test_a_forked_process_has_the_default_handler(ended: End) -> None:
    code = """
terminating_signals.SECONDS_TO_REACH = 0.1
def fork():
    child = os.fork()
    if child == 0:
        kill()
        os._exit(1)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
fork()
thread = threading.Thread(target=fork)
thread.start()
thread.join()
kill()
"""
    assert ended(code) == (-signal.SIGTERM, ["-15", "-15", "end 15"])


def test_a_descriptor_for_wakeups_of_the_script_stays(ended: End) -> None:
    code = """
mine = os.pipe()
os.set_blocking(mine[1], False)
signal.set_wakeup_fd(mine[1])
if os.fork() == 0:
    os._exit(0)
assert signal.set_wakeup_fd(-1) == mine[1]
kill()
"""
    assert ended(code) == (-signal.SIGTERM, ["end 15"])

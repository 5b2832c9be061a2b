"""Signals that end a process, as those of a cluster: the recording ends first, then the process, by the same signal.

A script that handles such a signal itself, or ignores it, is left alone, and it does not see that there is a handler of
ours: where it asks for the handler, it gets the default one.

Python runs a handler in the main thread, and only between two instructions of Python. So a thread gets the number of
each signal from a pipe, into which Python writes at once. It repeats a signal that came while the recorder or an
optimizer was at work, and it ends the process where the main thread waits in other code for too long.
"""

import contextlib
import math
import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

from tui_lab.util.exit_codes import of_signal

ENDING = (signal.SIGTERM, signal.SIGHUP)
SECONDS_TO_REACH = 10.0
"""How long the main thread may take until it handles a signal. Clusters kill a process after some 30 s."""
SECONDS_BETWEEN_TRIES = 0.02
SECONDS_OF_FORK = 1.0
"""How long a forked process may take until its signals are its own, where a thread other than the main one forks."""
SAME_SIGNAL = 1.0
"""Seconds after a signal in which another one is the same: `timeout` sends it to the process and to its group."""


class TerminatingSignals:
    """Calls `end` before a signal ends this process.

    end: gets the number of the signal; usually called in the main thread, in a signal handler. is_busy: whether the
    state of the recording is being changed in the main thread, so that it cannot end at this moment.
    """

    def __init__(self, end: Callable[[int], None], is_busy: Callable[[], bool]) -> None:
        self._end = end
        self._is_busy = is_busy
        self._pid = os.getpid()
        self._taking = threading.Lock()
        """Held from the moment at which a signal is handled."""
        self._taken_at = math.inf
        self._is_deferred = False
        self._has_ended = threading.Event()
        self._forked_at = -math.inf
        self._is_cut = False
        """Whether Python does not write into the pipe, while a process is forked."""
        self._set: Callable[..., Any] = signal.signal
        self._get: Callable[[int], Any] = signal.getsignal
        self._pipe: tuple[int, int] | None = None

    def handle(self) -> None:
        """Handle the signals whose default it is to end the process. Only in the main thread."""
        for number in ENDING:
            if self._get(number) is signal.SIG_DFL:
                self._set(number, self._handle)
        signal.signal = self._hidden_signal
        signal.getsignal = self._hidden_getsignal
        os.register_at_fork(
            before=self._before_fork, after_in_parent=self._after_fork, after_in_child=self._default_in_child
        )

    def watch(self) -> None:
        """Start the thread, unless the script handles wakeups itself: later than `handle`, since a script may fork."""
        if self._pipe is not None or threading.current_thread() is not threading.main_thread():
            return
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        previous = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        if previous != -1:
            signal.set_wakeup_fd(previous)
            os.close(reader)
            os.close(writer)
            return
        self._pipe = (reader, writer)
        threading.Thread(target=self._wait, args=(reader,), name="tui-lab signals", daemon=True).start()

    def _hidden_signal(self, signalnum: int, handler: Any) -> Any:
        """signal.signal as the script sees it. The default handler is replaced by ours."""
        is_ours = os.getpid() == self._pid and signalnum in ENDING and handler == signal.SIG_DFL
        return self._shown(self._set(signalnum, self._handle if is_ours else handler))

    def _hidden_getsignal(self, signalnum: int) -> Any:
        return self._shown(self._get(signalnum))

    def _shown(self, handler: Any) -> Any:
        return signal.SIG_DFL if handler == self._handle else handler

    def _before_fork(self) -> None:
        """A signal of the child must not arrive in the thread of this process."""
        if self._pipe is not None and os.getpid() == self._pid:
            self._forked_at = time.monotonic()
            with contextlib.suppress(ValueError):  # In another thread than the main one.
                self._is_cut = self._cut()

    def _after_fork(self) -> None:
        if self._pipe is not None and os.getpid() == self._pid:
            self._forked_at = time.monotonic()
            if self._is_cut:
                self._is_cut = False
                signal.set_wakeup_fd(self._pipe[1], warn_on_full_buffer=False)

    def _default_in_child(self) -> None:
        for number in ENDING:
            if self._get(number) == self._handle:
                self._set(number, signal.SIG_DFL)
        if self._pipe is not None and not self._is_cut:
            self._cut()

    def _cut(self) -> bool:
        """Let Python not write into the pipe; return whether it did: the script may have a descriptor of its own."""
        previous = signal.set_wakeup_fd(-1)
        if self._pipe is not None and previous == self._pipe[1]:
            return True
        signal.set_wakeup_fd(previous)
        return False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._pid:  # A forked process that got the signal before it had the default handler.
            self._die(number)
            return
        if self._pipe is not None and self._is_busy() and not self._taking.locked():
            self._is_deferred = True  # The thread sends it again.
            return
        if not self._taking.acquire(blocking=False):
            if time.monotonic() > self._taken_at + SAME_SIGNAL:
                self._die(number)
            return
        self._taken_at = time.monotonic()
        self._end(number)
        self._die(number)

    def _die(self, number: int) -> None:
        self._set(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    def _wait(self, reader: int) -> None:
        """Runs in the thread: the main thread must handle a signal in time."""
        main = threading.main_thread().ident
        assert main is not None
        while True:
            numbers = set(os.read(reader, 256)) & set(ENDING)
            number = next((n for n in numbers if self._get(n) == self._handle), None)
            if number is None or time.monotonic() < self._forked_at + SECONDS_OF_FORK:
                continue
            deadline = time.monotonic() + SECONDS_TO_REACH
            while not self._taking.locked() and time.monotonic() < deadline:
                time.sleep(SECONDS_BETWEEN_TRIES)
                if self._is_deferred:
                    self._is_deferred = False
                    signal.pthread_kill(main, number)
            if self._taking.acquire(blocking=False):
                self._taken_at = time.monotonic()
                self._end_here(number)

    def _end_here(self, number: int) -> None:
        """End the recording and the process in this thread: the main thread does not get to it."""

        def end() -> None:
            self._end(number)
            self._has_ended.set()

        threading.Thread(target=end, name="tui-lab end", daemon=True).start()
        self._has_ended.wait(SECONDS_TO_REACH)
        os._exit(of_signal(number))

"""Asks the process of a watched script for something, and waits for the answer in its run folder."""

import threading
import uuid
from collections.abc import Callable, Hashable
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

from tui_lab.core import commands as cmd
from tui_lab.core.watch.answers import answer_files as answers

T = TypeVar("T")
POLL_SECONDS = 0.1
PATIENCE_SECONDS = 30.0
SECONDS_BETWEEN_REQUESTS = 1.0


class ScriptAnswers(Generic[T]):
    """Sends one request at a time; what its answer is made into comes back through `drain`."""

    def __init__(self, send: Callable[[cmd.Command], None], folder: Path, patience: float = PATIENCE_SECONDS) -> None:
        """folder: of the run. patience: seconds to wait for an answer."""
        self._send = send
        self._folder = folder
        self._patience = patience
        self._results: SimpleQueue[T] = SimpleQueue()
        self._last_key: Hashable = None
        self._requested_at = float("-inf")
        self._stop = threading.Event()
        self.n_requests = 0

    def request(
        self,
        key: Hashable,
        command: Callable[[str], cmd.Command],
        read: Callable[[str], T | None],
        failed: Callable[[str], T],
        now: float,
        pause: float = SECONDS_BETWEEN_REQUESTS,
    ) -> None:
        """Send a command, unless `key` is that of the last request, or that was too recent or has no answer yet.

        command: makes it, with the id of the answer. read: gives the answer, None if there is none yet; raises OSError
        or ValueError. failed: makes an answer of why there is none. pause: the shortest time between two requests.
        """
        if key == self._last_key or now - self._requested_at < pause or self._waiting(now):
            return
        self._last_key = key
        self._requested_at = now
        self._stop = threading.Event()
        self.n_requests += 1
        answer_id = uuid.uuid4().hex
        self._send(command(answer_id))
        arguments = (answer_id, read, failed, self._stop)
        threading.Thread(target=self._wait_for, args=arguments, name="script answer", daemon=True).start()

    def _waiting(self, now: float) -> bool:
        return self.n_requests > 0 and not self._stop.is_set() and now - self._requested_at < self._patience

    def reset(self) -> None:
        """Let the next request pass at once."""
        self._stop.set()
        self._last_key = None
        self._requested_at = float("-inf")

    def drain(self) -> list[T]:
        results = []
        while True:
            try:
                results.append(self._results.get_nowait())
            except Empty:
                return results

    def _wait_for(
        self, answer_id: str, read: Callable[[str], T | None], failed: Callable[[str], T], stop: threading.Event
    ) -> None:
        n_looks = 0
        try:
            while not stop.is_set() and n_looks * POLL_SECONDS < self._patience:
                if (result := read(answer_id)) is not None:
                    self._results.put(result)
                    return
                n_looks += 1
                stop.wait(POLL_SECONDS)
            if not stop.is_set():
                reason = f"the script has not answered within {self._patience:.0f} s; a step may take longer"
                self._results.put(failed(reason))
        except (OSError, ValueError) as error:
            self._results.put(failed(f"the answer of the script cannot be read: {error}"))
        finally:
            stop.set()
            answers.remove(self._folder, answer_id)

"""Asks the process of a watched script for something about its model, once in a while."""

from collections.abc import Callable, Hashable
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

from tui_lab.app.session.script_query import PATIENCE_SECONDS, Progress, RunningScript, ScriptQuery
from tui_lab.core import commands as cmd

T = TypeVar("T")
SECONDS_BETWEEN_REQUESTS = 1.0


class ScriptAnswers(Generic[T]):
    """Sends one request at a time; what its answer is made into comes back through `drain`."""

    def __init__(self, script: RunningScript, patience: float = PATIENCE_SECONDS) -> None:
        """patience: seconds to wait for an answer, while the script is not paused."""
        self._script = script
        self._patience = patience
        self._results: SimpleQueue[T] = SimpleQueue()
        self._last_key: Hashable = None
        self._requested_at = float("-inf")
        self._query: ScriptQuery | None = None
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
        is_waiting = self._query is not None and not self._query.has_ended
        if key == self._last_key or now - self._requested_at < pause or is_waiting:
            return

        def look(answer_id: str) -> Progress:
            result = read(answer_id)
            if result is None:
                return "nothing new"
            self._results.put(result)
            return "complete"

        def ended(reason: str | None) -> None:
            if reason is not None:
                self._results.put(failed(reason))

        self._last_key = key
        self._requested_at = now
        self.n_requests += 1
        self._query = ScriptQuery(self._script, command, look, ended, self._patience)

    def reset(self) -> None:
        """Let the next request pass at once."""
        if self._query is not None:
            self._query.stop()
        self._last_key = None
        self._requested_at = float("-inf")

    def drain(self) -> list[T]:
        results = []
        while True:
            try:
                results.append(self._results.get_nowait())
            except Empty:
                return results

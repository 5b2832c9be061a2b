"""Run functions on the model of a live run, in the trainer's thread, and collect their results."""

import math
import queue
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from tui_lab.core import commands as cmd

if TYPE_CHECKING:
    from tui_lab.core.user_code.external_model import Model

T = TypeVar("T")
TIME_SHARE = 0.002
"""Fraction of the training time that inspections of a running model may take. With GPT-2's vocabulary, one inspection
takes a twentieth of a step."""


@dataclass(frozen=True)
class Inspection(Generic[T]):
    """The result for the request `key`. seconds: what it cost the trainer. weights: None for a model that trains."""

    key: Hashable
    result: T
    seconds: float
    weights: cmd.WeightsInfo | None = None


class Inspector(Generic[T]):
    """Sends one request at a time and limits how often; the results come back through `drain`."""

    def __init__(
        self,
        send: Callable[[cmd.Command], None],
        clock: Callable[[], float] = time.perf_counter,
        share: float = TIME_SHARE,
    ) -> None:
        """clock: measures what an inspection costs. share: the fraction of the training time for inspections."""
        self._send = send
        self._share = share
        self._clock = clock
        self._results: queue.SimpleQueue[Inspection[T]] = queue.SimpleQueue()
        self._refusals: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._last_key: Hashable = None
        self._last_request_at = -math.inf
        self._seconds = 0.0
        self.n_requests = 0

    def request(
        self, key: Hashable, inspect: "Callable[[Model], T]", now: float, *, min_pause: float, running: bool
    ) -> None:
        """Request `inspect(model)`, unless `key` is that of the last request or the last request was too recent.

        now: seconds, as all times here. min_pause: shortest time between two requests. running: whether the model
        trains; then the pause is at least the cost of the last inspection divided by the share.
        """
        pause = max(min_pause, self._seconds / self._share) if running else min_pause
        if key == self._last_key or now - self._last_request_at < pause:
            return
        self._last_key = key
        self._last_request_at = now
        self.n_requests += 1
        results = self._results
        clock = self._clock
        loaded: list[cmd.WeightsInfo] = []

        def run(model: "Model") -> None:
            began = clock()
            result = inspect(model)
            results.put(Inspection(key, result, clock() - began, loaded[-1] if loaded else None))

        self._send(cmd.Inspect(run, loaded.append, self._refusals.put))

    def refused(self) -> str:
        """Return why a request since the last call was refused, and let it be sent again; empty if none was."""
        reason = ""
        while not self._refusals.empty():
            reason = self._refusals.get_nowait()
            self._last_key = None
        return reason

    def reset(self) -> None:
        """Let the next request pass at once."""
        self._last_key = None
        self._last_request_at = -math.inf

    def drain(self) -> list[Inspection[T]]:
        """Return the results since the last call, oldest first."""
        inspections = []
        while not self._results.empty():
            inspections.append(self._results.get_nowait())
        if inspections:
            self._seconds = inspections[-1].seconds
        return inspections

"""Records what became non-finite first in a script's step, and passes it on at once."""

from collections.abc import Callable
from contextlib import AbstractContextManager

from tui_lab.core import events as ev
from tui_lab.core.nonfinite.record import Origin
from tui_lab.core.watch.run_log import RunLog
from tui_lab.core.watch.steps.nonfinite import NonFiniteWatch
from tui_lab.core.watch.watched_script import WatchedScript
from tui_lab.data.tokenizers import Tokenizer


class NonFiniteReport:
    """Owns the watch. on_found: called with the event when it happens; the front end sets it.

    end_step: records the open step, if it is complete. n_complete: the number of complete steps. uncounted: see
    NonFiniteWatch.
    """

    def __init__(
        self,
        log: RunLog,
        script: WatchedScript,
        end_step: Callable[[], None],
        n_complete: Callable[[], int],
        uncounted: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self.watch = NonFiniteWatch(self._report, uncounted)
        self.watch.tokenizer = self._tokenizer
        self.event: ev.NonFinite | None = None
        self.on_found: Callable[[ev.NonFinite], None] = lambda event: None
        self._log = log
        self._end_step = end_step
        self._n_complete = n_complete
        self._is_recorded = False

    def flush(self) -> None:
        """Record the event if the run had not started when it happened."""
        if self.event is not None and not self._is_recorded:
            self._is_recorded = True
            self._log.put(self.event)

    def _report(self, origin: Origin) -> None:
        self._end_step()
        self.event = ev.NonFinite(step=self._n_complete(), origin=origin)
        if self._log.is_started:
            self.flush()
        self.on_found(self.event)

    def _tokenizer(self) -> Tokenizer | None:
        reader = self._log.tokenizer
        return None if reader is None else reader.tokenizer()

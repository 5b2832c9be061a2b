"""The thread of a replay: it opens the run, and answers what is asked of the saved weights."""

import queue
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass

from tui_lab.app.session.following import open_ready
from tui_lab.app.session.messages import Printed, Ready, SessionFailed, SessionMessage
from tui_lab.app.session.output_tail import OutputTail, without_events
from tui_lab.app.session.saved_weights import SavedWeights
from tui_lab.core import commands as cmd
from tui_lab.core import events as ev
from tui_lab.core.config.script import ScriptConfig
from tui_lab.core.runs import folder as runs
from tui_lab.core.runs import run_files
from tui_lab.util.errors import ConfigError, DataError, RunError

NEVER_STEPPED = "this script never made an optimizer step, so there is nothing to show but what it printed"


@dataclass(frozen=True)
class Opened:
    """What the replay's thread has read: the whole run in few events, and what the run printed."""

    run: runs.Run
    ready: Ready
    events: list[ev.Event]
    printed: Printed | None
    """For runs of our trainer, shown at the end of the replay."""


class ReplayThread:
    """name: of the run. put: gets its messages, and once what was read. position: the step that the replay shows."""

    def __init__(self, name: str, put: Callable[[SessionMessage | Opened], None], position: Callable[[], int]) -> None:
        self._name = name
        self._put = put
        self._position = position
        self._commands: cmd.CommandQueue = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="replay", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def send(self, command: cmd.Command) -> None:
        """Answer Snapshot and Inspect with the run's saved weights; end at Stop."""
        self._commands.put(command)

    def join(self, seconds: float | None = None) -> bool:
        """Wait for the end of the thread, at most so long; return whether it has ended."""
        if self._thread.is_alive():
            self._thread.join(seconds)
        return not self._thread.is_alive()

    def _work(self) -> None:
        try:
            run = runs.find(self._name)
            ready = open_ready(run)
            self._put(ready)
            if (printed := OutputTail(run.path / run_files.OUTPUT).poll()) is not None:
                if _is_script(run):
                    self._put(printed)
                else:
                    printed = without_events(printed)
            downsampled = run.downsampled().events()
            self._put(Opened(run, ready, downsampled, printed))
            if not any(isinstance(event, ev.Started | ev.Failed) for event in downsampled) and _is_script(run):
                self._put(SessionFailed(NEVER_STEPPED, is_script=True))
            self._answer_commands(run)
        except (ConfigError, DataError, RunError) as error:
            self._put(SessionFailed(str(error)))
        except Exception as error:
            self._put(SessionFailed(f"the replay failed: {error!r}", traceback.format_exc()))

    def _answer_commands(self, run: runs.Run) -> None:
        """Answer Snapshot and Inspect until Stop."""
        weights = SavedWeights(run, self._position)
        while not isinstance(command := self._commands.get(), cmd.Stop):
            if isinstance(command, cmd.Snapshot | cmd.Inspect):
                try:
                    weights.answer(command)
                except (ConfigError, DataError, RunError) as error:
                    self._put(ev.Warned(step=0, message=str(error)))


def _is_script(run: runs.Run) -> bool:
    return isinstance(run.config(), ScriptConfig)

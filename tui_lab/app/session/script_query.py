"""One command to the process of a watched script, and the wait for its answer in the run folder."""

import contextlib
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tui_lab.app.session.state import Phase
from tui_lab.core import commands as cmd
from tui_lab.core.watch.answers import answer_files as answers

Progress = Literal["nothing new", "more", "complete"]
"""What a look at an answer has shown."""
POLL_SECONDS = 0.1
PATIENCE_SECONDS = 30.0


@dataclass(frozen=True)
class RunningScript:
    """The process of a script. send: takes commands to it; folder: of its run; phase: returns that of the run."""

    send: Callable[[cmd.Command], None]
    folder: Path
    phase: Callable[[], Phase]
    clock: Callable[[], float] = time.monotonic


class ScriptQuery:
    """Sends a command, and reads the answer in a thread until it is complete.

    command: makes the command, with the id of its answer. look: looks at the answer with an id; raises OSError or
    ValueError if it cannot be read. ended: called at the end with why there is no complete answer, None if it is
    complete or `stop` was called. patience: seconds to wait for something new, while the script is not paused.
    """

    def __init__(
        self,
        script: RunningScript,
        command: Callable[[str], cmd.Command],
        look: Callable[[str], Progress],
        ended: Callable[[str | None], None],
        patience: float = PATIENCE_SECONDS,
    ) -> None:
        self._script = script
        self._look = look
        self._ended = ended
        self._patience = patience
        self._stop = threading.Event()
        self._id = uuid.uuid4().hex
        script.send(command(self._id))
        threading.Thread(target=self._read, name="answer of a script", daemon=True).start()

    @property
    def has_ended(self) -> bool:
        return self._stop.is_set()

    def stop(self) -> None:
        """Wait no longer."""
        self._stop.set()

    def _read(self) -> None:
        reason: str | None = None
        try:
            reason = self._why_incomplete()
        except (OSError, ValueError) as error:
            reason = f"the answer of the script cannot be read: {error}"
        except Exception as error:
            reason = f"the answer of the script cannot be read: {error!r}"
        with contextlib.suppress(OSError):
            answers.remove(self._script.folder, self._id)
        self._stop.set()
        self._ended(reason)

    def _why_incomplete(self) -> str | None:
        waited = 0.0
        looked_at = self._script.clock()
        while not self._stop.is_set():
            progress = self._look(self._id)
            if progress == "complete":
                return None
            now = self._script.clock()
            phase = self._script.phase()
            if phase in ("ended", "failed"):
                return "the script has ended, so its model is no longer in memory"
            waited = 0.0 if progress == "more" or phase == "paused" else waited + now - looked_at
            looked_at = now
            if waited >= self._patience:
                return f"the script has not answered within {self._patience:.0f} s; a step may take longer"
            self._stop.wait(POLL_SECONDS)
        return None

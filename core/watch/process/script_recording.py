"""Record a script from its first line on, without importing torch or numpy before the script does.

Both read variables of the environment when they are imported (OMP_NUM_THREADS, OPENBLAS_NUM_THREADS,
PYTORCH_CUDA_ALLOC_CONF, …), which a script may set in its first lines.
"""

import os
import queue
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from tui_lab.core import commands as cmd
from tui_lab.core import events as ev
from tui_lab.core.config.script import ScriptConfig
from tui_lab.core.runs import folder as runs
from tui_lab.core.runs.control import ControlListener
from tui_lab.core.runs.folder import Run
from tui_lab.core.watch.event_writer import EventWriter
from tui_lab.core.watch.process.ending import ending, last_events, why_no_steps
from tui_lab.core.watch.process.script_process import when_imported

if TYPE_CHECKING:
    from tui_lab.core.watch.recording import Recording
    from tui_lab.data.tokenizers import Tokenizer


@dataclass(frozen=True)
class _UnknownTokens:
    """Stands for an IdTokenizer, whose module imports numpy."""

    def state(self) -> dict[str, Any]:
        return {"name": "ids", "n_vocab": 0}


class ScriptRecording:
    """A run folder that this process holds; the Recording begins when the script imports torch.

    Commands can be sent from the start: a pause that is asked for while torch is imported comes after the first step.

    problem: why nothing, or not everything, was recorded; empty if all was.
    """

    def __init__(
        self, name: str, command: Sequence[str], out: Path | None, report: Callable[[str], None] = lambda problem: None
    ) -> None:
        """Create the folder, `out` or one named after `name`. report: gets what prevents recording, once.

        Raises RunError.
        """
        self.problem = ""
        self.on_non_finite: Callable[[ev.NonFinite], None] = lambda event: None
        """Called with what became non-finite first, when it happens."""
        self.last_step = 0
        """The step after which the script is stopped; 0: none."""
        self.settings: dict[str, Any] = {}
        """Settings of the script that are known before it begins, to be recorded with those found in its variables."""
        self.on_begin: Callable[[], None] = lambda: None
        """Called in the script's thread when it has imported torch, before anything of it is recorded."""
        self._config = ScriptConfig(command=tuple(command), folder=str(Path.cwd()))
        run = runs.create(name, self._config, cast("Tokenizer", _UnknownTokens()), out)
        self.run = Run(run.path.absolute())  # The script may change its current folder.
        self._lock = self.run.lock()
        self._recording: Recording | None = None
        self._commands: cmd.CommandQueue = queue.SimpleQueue()
        self._listener = self._new_listener()
        self._report = report
        self._pid = os.getpid()
        self._is_beginning = False
        when_imported("torch", self._begin)

    @property
    def n_steps(self) -> int:
        """The optimizer steps recorded so far."""
        return 0 if self._recording is None else self._recording.n_steps

    @property
    def has_trained(self) -> bool:
        """Whether the script has begun its first update."""
        return self._recording is not None and self._recording.n_trained > 0

    @property
    def is_busy(self) -> bool:
        """Whether the recording cannot end at this moment; see Recording.is_busy."""
        return self._is_beginning or (self._recording is not None and self._recording.is_busy)

    @property
    def non_finite(self) -> ev.NonFinite | None:
        """What became non-finite first, if a loss or gradient was not finite."""
        return None if self._recording is None else self._recording.recorder.non_finite.event

    def end(self, error: BaseException | None = None) -> None:
        """Record how the script ended, and the summary; release the folder."""
        if self._listener is not None:
            self._listener.close()
        if self._recording is not None:
            self._recording.end(error)
            self.problem = self._recording.problem
            return
        writer = EventWriter(self.run)
        end = ending(0, error)
        why = self.problem or why_no_steps(end, has_optimizer=False)
        for event in last_events(end, why):
            writer.put(event)
        writer.close()
        self.problem = self.problem or writer.problem or why
        self._lock.release()

    def _new_listener(self) -> ControlListener | None:
        """Return a listener whose thread is started later: a script may still fork.

        None where no file can be created.
        """
        try:
            return ControlListener(self.run.path, self._commands.put)
        except OSError:
            return None

    def _begin(self) -> None:
        if os.getpid() != self._pid:  # A forked child is not recorded.
            return
        self.on_begin()
        self._is_beginning = True
        try:
            from tui_lab.core.watch.recording import Recording

            config = self._config.model_copy(update={"settings": self.settings})
            self._recording = Recording.begin(self.run, self._lock, config, commands=self._commands)
            self._recording.boundary.last_step = self.last_step
            self._recording.recorder.non_finite.on_found = lambda event: self.on_non_finite(event)
            if self._listener is not None:
                self._listener.start()
        except Exception as error:  # Whatever it is, the script must run.
            self.problem = f"the script cannot be recorded: {type(error).__name__}: {error}"
            self._report(self.problem)
        finally:
            self._is_beginning = False

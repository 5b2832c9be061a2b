"""Ask about the examples of a run in a separate process, so that neither the app nor the training waits for it."""

import subprocess
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tui_lab.app.session.buffer import Buffer
from tui_lab.core import commands as cmd
from tui_lab.core.runs.folder import Run
from tui_lab.util.child import ONE_THREAD, child_environment, kill_group, python_module
from tui_lab.util.errors import RunError
from tui_lab.util.strict_json import dumps, loads

if TYPE_CHECKING:
    from torch import Tensor

    from tui_lab.core.examples.report import ExamplesReport
    from tui_lab.data.tokenizers import Tokenizer

Send = Callable[[cmd.Command], None]
MOST_LISTED = 50
"""Examples of a list."""
FROM_DISK = ("duplicates", "wrong")
"""Questions that need no weights, or those of checkpoints."""
WORKER = "tui_lab.core.examples.worker"


@dataclass(frozen=True)
class Question:
    """What is asked. targets: how many are measured, about. step: of a replay; None for the newest weights."""

    by: str
    part: str
    targets: int
    step: int | None = None


@dataclass(frozen=True)
class Working:
    """How far the answer to a question is."""

    question: Question
    what: str
    done: int
    total: int


@dataclass(frozen=True)
class Answered:
    """The answer to a question, or why there is none."""

    question: Question
    report: "ExamplesReport | None"
    tokenizer: "Tokenizer | None"
    problem: str = ""


Message = Working | Answered


class ExamplesProcess:
    """Answers one question at a time about the run in `folder`; a new one ends the one before.

    live: sends commands to the model that trains in this process; None if none does. Its weights are copied between two
    steps into a temporary file; otherwise the process reads a checkpoint.
    """

    def __init__(self, folder: Path, live: Send | None = None) -> None:
        self._folder = folder
        self._live = live
        self._buffer = Buffer[Message]()
        self._stop = threading.Event()
        self._child: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()

    def drain(self) -> list[Message]:
        return self._buffer.drain()

    def ask(self, question: Question, *, live: bool) -> None:
        """Start to answer a question. live: with the weights of the model that trains."""
        self.stop()
        stop = self._stop = threading.Event()
        self._buffer.put(Working(question, "starting", 0, 0))
        if not live or self._live is None or question.by in FROM_DISK:
            self._start(question, stop)
            return

        def receive(weights: "dict[str, Tensor]", info: cmd.WeightsInfo) -> None:
            self._start(question, stop, weights, info.step)

        def refuse(reason: str) -> None:
            self._buffer.put(Answered(question, None, None, reason))

        self._live(cmd.Snapshot(receive, refuse=refuse))

    def stop(self) -> None:
        """End the process, if one runs."""
        with self._lock:
            self._stop.set()
            if self._child is not None:
                if self._child.poll() is None:
                    kill_group(self._child)
                self._child = None

    def _start(
        self,
        question: Question,
        stop: threading.Event,
        weights: "dict[str, Tensor] | None" = None,
        step: int | None = None,
    ) -> None:
        arguments = (question, stop, weights, question.step if step is None else step)
        threading.Thread(target=self._work, args=arguments, name="examples", daemon=True).start()

    def _work(
        self,
        question: Question,
        stop: threading.Event,
        weights: "dict[str, Tensor] | None",
        step: int | None,
    ) -> None:
        request: dict[str, Any] = {
            "by": question.by,
            "part": question.part,
            "targets": question.targets,
            "step": step,
            "top": MOST_LISTED,
        }
        try:
            with tempfile.TemporaryDirectory() as folder:
                if weights is not None:
                    request["weights"] = _write(weights, Path(folder) / "weights.safetensors")
                    weights = None  # The process has its own copy.
                answer = self._run(question, request, stop)
        except OSError as error:
            answer = Answered(question, None, None, f"the process could not be started: {error}")
        except Exception as error:
            answer = Answered(question, None, None, f"the examples cannot be measured: {error!r}")
        if answer is not None and not stop.is_set():
            self._buffer.put(answer)

    def _run(self, question: Question, request: dict[str, Any], stop: threading.Event) -> Answered | None:
        """Return the answer of a process; None if it was stopped."""
        with self._lock:
            if stop.is_set():
                return None
            child = self._child = subprocess.Popen(
                python_module(WORKER, str(self._folder.absolute()), dumps(request)),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                encoding="utf-8",
                start_new_session=True,  # So that the processes it starts are killed with it.
                env=child_environment(**ONE_THREAD),
            )
        assert child.stdout is not None
        answer = None
        with child.stdout:
            for line in child.stdout:
                answer = self._read(question, line) or answer
        code = child.wait()
        if answer is None and not stop.is_set():
            answer = Answered(question, None, None, f"its process ended with exit code {code}")
        return answer

    def _read(self, question: Question, line: str) -> Answered | None:
        """Take a line of the process; return the answer if it is one."""
        from tui_lab.core.examples.report import from_json

        try:
            record = loads(line)
            if "progress" in record:
                self._buffer.put(Working(question, *record["progress"]))
                return None
            if "problem" in record:
                return Answered(question, None, None, str(record["problem"]))
            return Answered(question, from_json(record["report"]), Run(self._folder).tokenizer())
        except (ValueError, RunError, TypeError, KeyError) as error:
            return Answered(question, None, None, f"the answer is not readable: {error}")


def _write(weights: "dict[str, Tensor]", path: Path) -> str:
    from tui_lab.core.training.tensor_files import write_tensors

    write_tensors(path, weights)
    return str(path)

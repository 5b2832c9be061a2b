"""Generate text in the process of a watched script, and read the tokens from the run folder as they come."""

import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from tui_lab.app.session.buffer import Buffer
from tui_lab.app.session.generation_thread import GenerationRequest
from tui_lab.app.session.messages import GenerationFinished, GenerationMessage, GenerationStarted, TokenGenerated
from tui_lab.app.session.state import Phase
from tui_lab.core import commands as cmd
from tui_lab.core.watch.answers import answer_files as answers

POLL_SECONDS = 0.1
PATIENCE_SECONDS = 30.0
"""How long to wait for the first token and between two, while the script is not paused."""
LONGEST_PROMPT = 2000
"""Characters. The whole command must fit into one atomic write."""


class ScriptGeneration:
    """Answer one request at a time; a new one ends the one before. `drain` returns the messages.

    send: takes commands to the script. phase: returns that of the run; while it is paused an answer may take any time.
    """

    def __init__(
        self,
        send: Callable[[cmd.Command], None],
        phase: Callable[[], Phase],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._send = send
        self._phase = phase
        self._clock = clock
        self._buffer = Buffer[GenerationMessage]()
        self._stop = threading.Event()

    def drain(self) -> list[GenerationMessage]:
        return self._buffer.drain()

    def stop(self) -> None:
        self._stop.set()

    def refuse(self, request: GenerationRequest, reason: str) -> None:
        """Answer a request with an error."""
        self._buffer.put(GenerationFinished(request.number, reason))

    def start(self, request: GenerationRequest, folder: Path) -> None:
        """Ask the script that is recorded in `folder` to generate."""
        self.stop()
        if len(request.prompt) > LONGEST_PROMPT:
            self.refuse(request, f"the prompt has {len(request.prompt):,} characters; at most {LONGEST_PROMPT:,}")
            return
        self._stop = threading.Event()
        answer_id = uuid.uuid4().hex
        self._send(
            cmd.Generate(
                answer_id,
                request.prompt,
                request.max_new_tokens,
                request.temperature,
                request.top_k,
                request.top_p,
                request.seed,
            )
        )
        arguments = (request.number, folder, answer_id, self._stop)
        threading.Thread(target=self._read, args=arguments, name="script generation", daemon=True).start()

    def _read(self, number: int, folder: Path, answer_id: str, stop: threading.Event) -> None:
        """Pass the tokens on until the end of the answer, an error, or silence."""
        error: str | None = None
        try:
            error = self._pass_on(number, folder, answer_id, stop)
        except (OSError, ValueError) as problem:
            error = f"the reply cannot be read: {problem}"
        finally:
            answers.remove(folder, answer_id)
        self._buffer.put(GenerationFinished(number, error))

    def _pass_on(self, number: int, folder: Path, answer_id: str, stop: threading.Event) -> str | None:
        n_tokens = 0
        started = False
        waited = 0.0
        looked_at = self._clock()
        while not stop.is_set():
            answer = answers.read_generation(folder, answer_id)
            if answer.step is not None and not started:
                started = True
                self._buffer.put(GenerationStarted(number, cmd.WeightsInfo(answer.step)))
            for token in answer.tokens[n_tokens:]:
                self._buffer.put(TokenGenerated(number, token))
            if answer.done:
                return answer.error
            now = self._clock()
            phase = self._phase()
            if phase in ("ended", "failed"):
                return "the script has ended, so its model is no longer in memory"
            waited = 0.0 if len(answer.tokens) > n_tokens or phase == "paused" else waited + now - looked_at
            n_tokens = len(answer.tokens)
            looked_at = now
            if waited >= PATIENCE_SECONDS:
                return f"the script has not answered within {PATIENCE_SECONDS:.0f} s; a step may take longer"
            stop.wait(POLL_SECONDS)
        return None

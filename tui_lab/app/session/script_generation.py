"""Generate text in the process of a watched script, and read the tokens from the run folder as they come."""

from collections.abc import Callable
from pathlib import Path

from tui_lab.app.session.buffer import Buffer
from tui_lab.app.session.generation_thread import GenerationRequest
from tui_lab.app.session.messages import GenerationFinished, GenerationMessage, GenerationStarted, TokenGenerated
from tui_lab.app.session.script_query import Progress, RunningScript, ScriptQuery
from tui_lab.core import commands as cmd
from tui_lab.core.watch.answers import answer_files as answers

LONGEST_PROMPT = 2000
"""Characters. The whole command must fit into one atomic write."""


class ScriptGeneration:
    """Answer one request at a time; a new one ends the one before. `drain` returns the messages."""

    def __init__(self) -> None:
        self._buffer = Buffer[GenerationMessage]()
        self._query: ScriptQuery | None = None

    def drain(self) -> list[GenerationMessage]:
        return self._buffer.drain()

    def stop(self) -> None:
        if self._query is not None:
            self._query.stop()

    def refuse(self, request: GenerationRequest, reason: str) -> None:
        """Answer a request with an error."""
        self._buffer.put(GenerationFinished(request.number, reason))

    def start(self, request: GenerationRequest, script: RunningScript) -> None:
        """Ask the script to generate."""
        self.stop()
        if len(request.prompt) > LONGEST_PROMPT:
            self.refuse(request, f"the prompt has {len(request.prompt):,} characters; at most {LONGEST_PROMPT:,}")
            return

        def command(answer_id: str) -> cmd.Command:
            return cmd.Generate(
                answer_id,
                request.prompt,
                request.max_new_tokens,
                request.temperature,
                request.top_k,
                request.top_p,
                request.seed,
            )

        reply = _Reply(request.number, script.folder, self._buffer.put)
        self._query = ScriptQuery(script, command, reply.look, reply.end)


class _Reply:
    """Passes the tokens of one reply on as they come."""

    def __init__(self, number: int, folder: Path, put: Callable[[GenerationMessage], None]) -> None:
        self._number = number
        self._folder = folder
        self._put = put
        self._has_started = False
        self._n_tokens = 0
        self._error: str | None = None

    def look(self, answer_id: str) -> Progress:
        answer = answers.read_generation(self._folder, answer_id)
        if answer.step is not None and not self._has_started:
            self._has_started = True
            self._put(GenerationStarted(self._number, cmd.WeightsInfo(answer.step)))
        new = answer.tokens[self._n_tokens :]
        for token in new:
            self._put(TokenGenerated(self._number, token))
        self._n_tokens = len(answer.tokens)
        self._error = answer.error
        if answer.done:
            return "complete"
        return "more" if new else "nothing new"

    def end(self, reason: str | None) -> None:
        self._put(GenerationFinished(self._number, reason or self._error))

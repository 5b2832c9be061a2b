"""Where the screen that looks inside a model gets its measurements: from the trainer's thread, or from a checkpoint."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from tui_lab.app.session.attention_source import Rows, rows_of_script
from tui_lab.app.session.inspector import Inspector
from tui_lab.app.session.script_answers import SECONDS_BETWEEN_REQUESTS, ScriptAnswers
from tui_lab.app.session.script_query import RunningScript
from tui_lab.core import commands as cmd
from tui_lab.core.inside.results import LookResult
from tui_lab.core.watch.answers.inside_answers import InsideAnswer, read_inside

if TYPE_CHECKING:
    from tui_lab.core.user_code.external_model import Model

SHARE = 0.01
"""Fraction of the training time for these measurements while their screen is open. An ablation of a large model takes
seconds; then the next one follows after a hundred times as long, or when the user asks."""
PATIENCE_SECONDS = 300.0
"""An ablation of a large model in a script may take minutes."""
FEWER_ROWS = "Not available: the latest batch of the script has fewer rows."


@dataclass(frozen=True)
class Inside:
    """What was measured of a row after `step` steps, or why it was not. rows: those that the row is one of.

    step: -1 if there is no model. weights: those of the checkpoint that was loaded; None if the model trains.
    seconds: what it cost.
    """

    look: cmd.Look
    step: int
    row: int
    rows: Rows
    result: LookResult
    weights: cmd.WeightsInfo | None = None
    seconds: float = 0.0


@dataclass(frozen=True)
class LookRequest:
    """A look at a row after `step` steps. how: to ablate.

    weights: the step that the weights are of: `step`, or that of the last checkpoint.
    """

    look: cmd.Look
    how: cmd.Replacement
    rows: Rows
    row: int
    step: int
    weights: int


class InsideSource(Protocol):
    """Sends one request at a time for each kind of look; the results come back through `drain`."""

    @property
    def n_requests(self) -> int: ...

    def request(self, request: LookRequest, now: float, *, running: bool) -> None:
        """Request a look at a row, unless it is that of the last request, or that was too recent."""
        ...

    def reset(self) -> None:
        """Let the next requests pass at once."""
        ...

    def drain(self) -> list[Inside]: ...


class InspectedInside:
    """From a model in this process, or from a checkpoint."""

    def __init__(self, send: Callable[[cmd.Command], None]) -> None:
        self._inspectors: dict[cmd.Look, Inspector[Inside]] = {}
        self._requested: dict[cmd.Look, tuple[Rows, int]] = {}
        self._send = send

    @property
    def n_requests(self) -> int:
        return sum(inspector.n_requests for inspector in self._inspectors.values())

    def request(self, request: LookRequest, now: float, *, running: bool) -> None:
        def measure(model: "Model") -> Inside:
            from tui_lab.core.inside.looks import look_at

            result = look_at(model, look, rows.x, rows.y, row, n_vocab=model.n_vocab, how=request.how)
            return Inside(look, request.step, row, rows, result)

        look = request.look
        rows = request.rows
        row = request.row
        if look not in self._inspectors:
            self._inspectors[look] = Inspector(self._send, share=SHARE)
        key = (rows.step, row, request.how if look == "ablation" else "", request.weights)
        self._requested[look] = (rows, row)
        self._inspectors[look].request(key, measure, now, min_pause=SECONDS_BETWEEN_REQUESTS, running=running)

    def reset(self) -> None:
        for inspector in self._inspectors.values():
            inspector.reset()

    def drain(self) -> list[Inside]:
        results = []
        for look, inspector in self._inspectors.items():
            if reason := inspector.refused():
                rows, row = self._requested[look]
                results.append(Inside(look, -1, row, rows, f"Not available: {reason}."))
            results += [replace(i.result, weights=i.weights, seconds=i.seconds) for i in inspector.drain()]
        return results


class ScriptInside:
    """From the process of a script."""

    def __init__(self, script: RunningScript) -> None:
        self._script = script
        self._answers: dict[cmd.Look, ScriptAnswers[Inside]] = {}
        self._seconds: dict[cmd.Look, float] = {}
        """What the latest measurement cost."""

    @property
    def n_requests(self) -> int:
        return sum(each.n_requests for each in self._answers.values())

    def request(self, request: LookRequest, now: float, *, running: bool) -> None:
        def read(answer_id: str) -> Inside | None:
            answer = read_inside(self._script.folder, answer_id)
            return None if answer is None else _inside(answer, request)

        def command(answer_id: str) -> cmd.Command:
            return cmd.LookInside(answer_id, look, request.row, request.how)

        def failed(reason: str) -> Inside:
            return Inside(look, request.step, request.row, request.rows, f"Not available: {reason}.")

        look = request.look
        if look not in self._answers:
            self._answers[look] = ScriptAnswers(self._script, PATIENCE_SECONDS)
        key = (request.row, request.how if look == "ablation" else "", request.step)
        pause = max(SECONDS_BETWEEN_REQUESTS, self._seconds.get(look, 0.0) / SHARE if running else 0.0)
        self._answers[look].request(key, command, read, failed, now, pause)

    def reset(self) -> None:
        for each in self._answers.values():
            each.reset()

    def drain(self) -> list[Inside]:
        results = [inside for each in self._answers.values() for inside in each.drain()]
        self._seconds |= {inside.look: inside.seconds for inside in results}
        return results


def _inside(answer: InsideAnswer, request: LookRequest) -> Inside:
    """The measurement is of the batch that was recorded last, which may be a later one than that of the request."""
    row = request.row
    if row >= len(answer.x):
        result = answer.result if isinstance(answer.result, str) else FEWER_ROWS
        return Inside(request.look, answer.step, row, request.rows, result, seconds=answer.seconds)
    rows = rows_of_script(answer.batch_step, answer, answer.x, answer.y)
    return Inside(request.look, answer.step, row, rows, answer.result, seconds=answer.seconds)

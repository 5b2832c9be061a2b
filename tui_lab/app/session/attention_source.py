"""Where the attention screen gets its maps: from a model that can be inspected, or from a watched script."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from tui_lab.app.session.inspector import Inspector
from tui_lab.app.session.script_answers import SECONDS_BETWEEN_REQUESTS, ScriptAnswers
from tui_lab.app.session.script_query import RunningScript
from tui_lab.core import commands as cmd
from tui_lab.core.inference.attention import AttentionMaps
from tui_lab.core.watch.answers import answer_files as answers
from tui_lab.core.watch.answers.inside_answers import InsideAnswer
from tui_lab.core.watch.batch.recorded_batch import RecordedBatch, read_batch
from tui_lab.data.loader import Batch
from tui_lab.runs.names import row_name

if TYPE_CHECKING:
    from tui_lab.core.user_code.external_model import Model

Ids = npt.NDArray[np.int64]
BUILT_IN_ONLY = "attention weights are available for the built-in model only, not for model.source"


@dataclass(frozen=True)
class Rows:
    """The rows of a batch that can be shown. x, y: int64 [R, T]; names: what each row is called.

    n_classes, class_names: as in RecordedBatch.
    """

    step: int
    x: Ids
    y: Ids
    names: tuple[str, ...]
    n_classes: int = 0
    class_names: tuple[str, ...] = ()


def rows_of_batch(batch: Batch) -> Rows:
    n_rows = len(batch.ids)
    names = tuple(f"example {example:,} ({row}/{n_rows})" for row, example in enumerate(batch.ids.tolist(), 1))
    return Rows(batch.step, batch.x, batch.y, names)


def rows_of_recorded(batch: RecordedBatch) -> Rows | None:
    """Return the recorded rows; None if they are not tokens."""
    rows = batch.token_rows
    return None if rows is None else rows_of_script(batch.step, batch, *rows)


def rows_of_script(step: int, batch: RecordedBatch | InsideAnswer, x: Ids, y: Ids) -> Rows:
    """Return the first rows of a batch."""
    names = tuple(row_name(row, batch.n_rows) for row in range(len(x)))
    return Rows(step, x, y, names, batch.n_classes, batch.class_names)


@dataclass(frozen=True)
class MeasuredMaps:
    """The maps for one row after `step` steps, or why there are none. rows: those that the row is one of.

    step: -1 if there is no model. weights: those of the checkpoint that was loaded; None if the model trains.
    """

    step: int
    row: int
    maps: AttentionMaps | str
    rows: Rows
    weights: cmd.WeightsInfo | None = None


class AttentionSource(Protocol):
    """Sends one request at a time; the results come back through `drain`."""

    @property
    def n_requests(self) -> int: ...

    def request(self, rows: Rows, row: int, step: int, now: float, *, replayed: bool, running: bool) -> None:
        """Request the maps of a row, unless they are those of the last request or that was too recent."""
        ...

    def reset(self) -> None:
        """Let the next request pass at once."""
        ...

    def drain(self) -> list[MeasuredMaps]: ...


class InspectedMaps:
    """From a model in this process, or from a checkpoint."""

    def __init__(self, send: Callable[[cmd.Command], None]) -> None:
        self._inspector: Inspector[MeasuredMaps] = Inspector(send)
        self._requested: tuple[int, Rows] | None = None
        """The row and the rows of the last request."""

    @property
    def n_requests(self) -> int:
        return self._inspector.n_requests

    def request(self, rows: Rows, row: int, step: int, now: float, *, replayed: bool, running: bool) -> None:
        def measure(model: "Model") -> MeasuredMaps:
            from tui_lab.core.inference.example import attention_maps

            maps = attention_maps(model, rows.x[row])
            return MeasuredMaps(step, row, BUILT_IN_ONLY if maps is None else maps, rows)

        key = (row, 0 if replayed else step)
        self._requested = (row, rows)
        self._inspector.request(key, measure, now, min_pause=SECONDS_BETWEEN_REQUESTS, running=running)

    def reset(self) -> None:
        self._inspector.reset()

    def drain(self) -> list[MeasuredMaps]:
        measured: list[MeasuredMaps] = []
        if (reason := self._inspector.refused()) and self._requested is not None:
            row, rows = self._requested
            measured.append(MeasuredMaps(-1, row, f"no maps: {reason}", rows))
        inspections = self._inspector.drain()
        return measured + [replace(each.result, weights=each.weights) for each in inspections]


class ScriptMaps:
    """From the process of a script."""

    def __init__(self, script: RunningScript) -> None:
        self._folder = script.folder
        self._answers: ScriptAnswers[MeasuredMaps] = ScriptAnswers(script)

    @property
    def n_requests(self) -> int:
        return self._answers.n_requests

    def request(self, rows: Rows, row: int, step: int, now: float, *, replayed: bool, running: bool) -> None:
        def read(answer_id: str) -> MeasuredMaps | None:
            maps = answers.read_attention(self._folder, answer_id)
            return None if maps is None else self._measured(maps, rows, row, step)

        def failed(reason: str) -> MeasuredMaps:
            return MeasuredMaps(step, row, reason, rows)

        self._answers.request((row, step), lambda answer_id: cmd.Attend(answer_id, row), read, failed, now)

    def reset(self) -> None:
        self._answers.reset()

    def drain(self) -> list[MeasuredMaps]:
        return self._answers.drain()

    def _measured(self, maps: AttentionMaps | str, rows: Rows, row: int, step: int) -> MeasuredMaps:
        """The maps are those of the batch that is recorded now, which may be a later one than `rows`."""
        batch = read_batch(self._folder)
        recorded = None if batch is None else rows_of_recorded(batch)
        if recorded is not None and row < len(recorded.x):
            rows = recorded
        if isinstance(maps, AttentionMaps) and maps.length != rows.x.shape[1]:
            maps = f"the maps are of {maps.length} positions, and the recorded rows have {rows.x.shape[1]} tokens"
        return MeasuredMaps(step, row, maps, rows)

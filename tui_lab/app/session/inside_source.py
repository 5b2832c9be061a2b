"""Where the screen that looks inside a model gets its measurements: from the trainer's thread, or from a checkpoint."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tui_lab.app.session.attention_source import Rows
from tui_lab.app.session.inspector import Inspector
from tui_lab.core import commands as cmd

if TYPE_CHECKING:
    from tui_lab.core.inside.ablation import Ablation, How
    from tui_lab.core.inside.lens import LogitLens
    from tui_lab.core.inside.looks import Look
    from tui_lab.core.inside.norms import StreamNorms
    from tui_lab.core.user_code.external_model import Model

SHARE = 0.01
"""Fraction of the training time for these measurements while their screen is open. An ablation of a large model takes
seconds; then the next one follows after a hundred times as long, or when the user asks."""
SECONDS_BETWEEN_REQUESTS = 1.0


@dataclass(frozen=True)
class Inside:
    """What was measured of a row after `step` steps, or why it was not. rows: those that the row is one of.

    step: -1 if there is no model. weights: those of the checkpoint that was loaded; None if the model trains.
    seconds: what it cost.
    """

    look: "Look"
    step: int
    row: int
    rows: Rows
    result: "LogitLens | Ablation | StreamNorms | str"
    weights: cmd.WeightsInfo | None = None
    seconds: float = 0.0


class InsideSource:
    """Sends one request at a time for each kind of look; the results come back through `drain`."""

    def __init__(self, send: Callable[[cmd.Command], None]) -> None:
        self._inspectors: dict[Look, Inspector[Inside]] = {}
        self._requested: dict[Look, tuple[Rows, int]] = {}
        self._send = send

    @property
    def n_requests(self) -> int:
        return sum(inspector.n_requests for inspector in self._inspectors.values())

    def request(
        self, look: "Look", how: "How", rows: Rows, row: int, step: int, now: float, *, weights: int, running: bool
    ) -> None:
        """Request a look at a row, unless it is that of the last request, or that was too recent.

        how: to ablate. weights: the step that the weights are of: `step`, or that of the last checkpoint.
        """

        def measure(model: "Model") -> Inside:
            from tui_lab.core.inside.looks import look_at

            return Inside(look, step, row, rows, look_at(model, look, rows.x, rows.y, row, how))

        if look not in self._inspectors:
            self._inspectors[look] = Inspector(self._send, share=SHARE)
        key = (rows.step, row, how if look == "ablation" else "", weights)
        self._requested[look] = (rows, row)
        self._inspectors[look].request(key, measure, now, min_pause=SECONDS_BETWEEN_REQUESTS, running=running)

    def reset(self) -> None:
        """Let the next requests pass at once."""
        for inspector in self._inspectors.values():
            inspector.reset()

    def drain(self) -> list[Inside]:
        results = []
        for look, inspector in self._inspectors.items():
            if reason := inspector.refused():
                rows, row = self._requested[look]
                results.append(Inside(look, -1, row, rows, f"No weights: {reason}."))
            results += [replace(i.result, weights=i.weights, seconds=i.seconds) for i in inspector.drain()]
        return results

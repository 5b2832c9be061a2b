"""The vertical axis of each metric, as the user chose it."""

from tui_lab.app.panes.metrics import LOSSES
from tui_lab.app.session.state import LabState
from tui_lab.app.widgets.chart import YAxis
from tui_lab.text.plot import Y_AXES


class YAxes:
    def __init__(self) -> None:
        self._chosen: dict[str, YAxis] = {}
        """Of the metrics whose axis is not automatic."""
        self._run: str | None = None

    def of(self, metric: str) -> YAxis:
        return self._chosen.get(metric, "auto")

    def next(self, metric: str) -> None:
        """Go on: from the lowest value shown, from zero, logarithmic."""
        self._chosen[metric] = Y_AXES[(Y_AXES.index(self.of(metric)) + 1) % len(Y_AXES)]

    def begin(self, state: LabState, *, from_zero: bool = False) -> None:
        """Begin a run with planted faults with an axis from zero: on another, no change looks like learning."""
        if state.ready is None or state.ready.name == self._run:
            return
        self._run = state.ready.name
        config = state.trainer_config
        from_zero = from_zero or (config is not None and bool(config.faults))
        self._chosen = dict.fromkeys(LOSSES, "zero") if from_zero else {}

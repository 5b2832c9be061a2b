"""The measurements of each layer over the steps of a run, in bounded memory."""

from dataclasses import dataclass, field

from tui_lab.app.session.series import Series
from tui_lab.core import events as ev

LIMIT = 512
"""Points of a curve; a terminal has fewer columns."""
MAX_CURVES = 512
"""Of an event log that another program wrote."""


@dataclass
class LayerCurves:
    """curves: by measurement and layer. step: of the latest measurement, 0 if there is none."""

    curves: dict[str, dict[str, Series]] = field(default_factory=dict)
    step: int = 0

    def add(self, event: ev.StepDone) -> None:
        """Take the measurements of a step, if it has any."""
        if event.by_layer is None:
            return
        self.step = event.step
        for measurement, values in event.by_layer.items():
            for layer, value in values.items():
                of_measurement = self.curves.setdefault(measurement, {})
                if layer in of_measurement or sum(map(len, self.curves.values())) < MAX_CURVES:
                    of_measurement.setdefault(layer, Series(LIMIT)).add(event.step, value)

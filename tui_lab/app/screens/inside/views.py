"""The views of the screen that looks inside a model, and the latest measurement of each."""

from collections.abc import Iterable

from tui_lab.app.screens.attention_text import Example
from tui_lab.app.screens.inside.ablation import AblationView
from tui_lab.app.screens.inside.layers import LayersView
from tui_lab.app.screens.inside.lens import LensView
from tui_lab.app.screens.inside.norms import NormsView
from tui_lab.app.screens.inside.view import InsideView
from tui_lab.app.session.inside_source import Inside
from tui_lab.app.session.layer_curves import LayerCurves
from tui_lab.core import commands as cmd
from tui_lab.data.tokenizers import Tokenizer

LOOKS: tuple[cmd.Look | None, ...] = ("lens", "ablation", "norms", None)
"""What each view asks of the model; the last one draws the events of the run."""


class InsideViews:
    """number: of the view that is shown. how: to ablate."""

    def __init__(self, curves: LayerCurves) -> None:
        self._layers = LayersView(curves)
        self.every: tuple[InsideView, ...] = (LensView(), AblationView(), NormsView(), self._layers)
        self.number = 0
        self.how: cmd.Replacement = "zero"
        self._latest: dict[cmd.Look, Inside] = {}
        self._drawn_step = -1
        """The step of the measurements by layer that were taken last."""

    def go_to(self, number: int) -> None:
        self.number = number

    @property
    def view(self) -> InsideView:
        return self.every[self.number]

    @property
    def look(self) -> cmd.Look | None:
        """What the view asks of the model."""
        return LOOKS[self.number]

    @property
    def measured(self) -> Inside | None:
        """The latest measurement of the view."""
        return None if self.look is None else self._latest.get(self.look)

    @property
    def drawn(self) -> InsideView | None:
        """The view if it has something to draw; not after a measurement that failed."""
        failed = self.measured is not None and isinstance(self.measured.result, str)
        return self.view if self.view.has_result and not failed else None

    def take(self, results: Iterable[Inside], tokenizer: Tokenizer) -> bool:
        """Take new measurements; return whether there are any."""
        is_new = False
        for measured in results:
            is_new = True
            self._latest[measured.look] = measured
            if not isinstance(measured.result, str):
                example = Example(measured.rows, measured.row, tokenizer)
                self.every[LOOKS.index(measured.look)].take(measured.result, example)
        return is_new

    def take_curves(self, curves: LayerCurves) -> bool:
        """Take the curves of the run, which are others after a replay was rewound; return whether they are new."""
        is_new = curves is not self._layers.curves or curves.step != self._drawn_step
        self._layers.curves = curves
        self._drawn_step = curves.step
        return is_new and self.look is None

"""The loss pane: the curves of a run, small and large."""

from collections.abc import Iterable
from dataclasses import dataclass

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, Vertical
from textual.widgets import Sparkline, Static

from tui_lab.app.panes.pane import Pane
from tui_lab.app.session.series import Points, Series, extremes, smooth
from tui_lab.app.session.state import LabState
from tui_lab.app.widgets.chart import Chart, Curve, Dot
from tui_lab.core import events as ev
from tui_lab.core.runs import folder as runs
from tui_lab.util.errors import RunError
from tui_lab.util.escape import printable

SPARKS = (
    ("loss", "loss"),
    ("val_loss", "val loss"),
    ("grad_norm", "grad norm"),
    ("lr", "lr"),
    ("update_ratio", "Δw / w"),
    ("tokens_per_s", "tokens/s"),
)
SMOOTHING = (0.0, 0.6, 0.9, 0.98)
SECONDS_BETWEEN_DRAWINGS = 1.0
OVERLAY_STYLES = ("magenta", "blue", "red")


@dataclass(frozen=True)
class Overlay:
    """The loss of an earlier run."""

    name: str
    points: Points


class LossPane(Pane):
    number, title, help_name, main = 2, "Loss", "loss", "#chart"

    BINDINGS = [
        Binding("y", "log", "Log axis", show=False),
        Binding("m", "smooth", "Smoothing", show=False),
        Binding("a", "overlay", "Overlay a run", show=False),
        Binding("left_square_bracket", "cursor(-1)", "Cursor left", show=False),
        Binding("right_square_bracket", "cursor(1)", "Cursor right", show=False),
    ]

    def __init__(self, id: str) -> None:
        super().__init__(id=id)
        self.log_axis, self.smoothing = False, 0
        self.cursor: float | None = None
        self.overlays: list[Overlay] = []
        self.floor: float | None = None
        """The least loss that a mistake leaves, once the doctor has found it."""
        self._drawn_at = float("-inf")
        self._drawn: object = None
        self._state: LabState | None = None

    def compose(self) -> ComposeResult:
        yield Static(id="readout")
        yield Static(id="best")
        yield Chart(id="chart")
        with Vertical(id="sparks"):
            for name, title in SPARKS:
                with Horizontal(classes="spark"):
                    yield Static(title, classes="name")
                    yield Sparkline([], id=f"spark-{name}")
                    yield Static("–", id=f"last-{name}", classes="last")

    def on_resize(self) -> None:
        # In a low pane the sparklines, which need a line each, go before the chart does.
        self.set_class(self.size.height < 17, "-low")
        self._drawn = None

    def show(self, state: LabState, now: float) -> None:
        self._state = state
        if now - self._drawn_at < SECONDS_BETWEEN_DRAWINGS:
            return
        news = (state.step, state.phase, len(state.changes), state.evaluated, state.restored, self.size, self.floor)
        if news != self._drawn:
            self._drawn, self._drawn_at = news, now
            self.redraw()

    def redraw(self) -> None:
        """Everything anew, from what the state has now."""
        state = self._state
        if state is None:
            return
        if self.has_class("-low") is False:
            for name, _ in SPARKS:
                self._draw_spark(name, state.curves[name])
        self._draw_chart(state)
        self._read_out(state)
        told = the_best(state)
        self.query_one("#best").display = bool(told)
        self.put("#best", told)

    def _draw_spark(self, name: str, series: Series) -> None:
        spark = self.query_one(f"#spark-{name}", Sparkline)
        width = max(4, spark.size.width)
        data = [value for _, value in extremes(series.points, width // 2)]
        if data != spark.data:
            spark.data = data
        self.put(f"#last-{name}", "–" if series.last is None else f"{series.last:,.4g}")

    def _curves(self, state: LabState) -> list[Curve]:
        columns = max(20, self.query_one(Chart).size.width - 12)
        weight = SMOOTHING[self.smoothing]
        train = state.curves["loss"].points
        train = extremes(smooth(train, weight) if weight else train, columns)
        curves = [
            Curve(overlay.name, extremes(overlay.points, columns), OVERLAY_STYLES[i % len(OVERLAY_STYLES)])
            for i, overlay in enumerate(self.overlays)
        ]
        return [
            *curves,
            Curve("train", train, "cyan"),
            Curve("validation", state.curves["val_loss"].points, "yellow", dotted=True),
        ]

    def _draw_chart(self, state: LabState) -> None:
        marks = [(float(step), "green") for step in sorted({change.step for change in merged(state.changes)})]
        if self.cursor is not None:
            marks.append((self.cursor, "white"))
        chance = state.chance_loss
        references = [(y, style) for y, style in ((chance, "bright_black"), (self.floor, "red")) if y is not None]
        dots = [] if state.best is None else [Dot(state.best.step, state.best.val_loss, "bold yellow")]
        self.query_one(Chart).draw(
            self._curves(state), marks=marks, dots=dots, references=references, log=self.log_axis
        )

    def _read_out(self, state: LabState) -> None:
        text = Text(no_wrap=True, overflow="ellipsis")
        if self.cursor is not None:
            text.append(f"at step {self.cursor:,.0f}: ", "bold")
            for name in ("loss", "val_loss", "lr", "grad_norm"):
                found = nearest(state.curves[name].points, self.cursor)
                text.append(f"{name} {found:.4g}  " if found is not None else "")
            near = [c for c in merged(state.changes) if abs(c.step - self.cursor) <= max(1.0, state.step / 100)]
            text.append("  ".join(f"{c.key} {c.old} → {c.new}" for c in near), "green")
        else:
            text.append("— train ", "cyan").append("o val ", "yellow").append("┄ ln V ", "dim")
            if state.chance_loss is not None:
                text.append(f"{state.chance_loss:.3f} ", "dim")
            if self.floor is not None:
                text.append(f"┄ floor {self.floor:.3f} ", "red")
            if changes := merged(state.changes):
                change = changes[-1]
                text.append(f"│ {change.key} {change.old} → {change.new} at {change.step:,} ", "green")
            for i, overlay in enumerate(self.overlays):
                text.append(f"— {printable(overlay.name)} ", OVERLAY_STYLES[i % len(OVERLAY_STYLES)])
        scale = "log" if self.log_axis else "linear"
        weight = SMOOTHING[self.smoothing]
        self.border_subtitle = f"{scale}{f', smoothed {weight}' if weight else ''}"
        self.put("#readout", text)

    def action_log(self) -> None:
        self.log_axis = not self.log_axis
        self.redraw()

    def action_smooth(self) -> None:
        self.smoothing = (self.smoothing + 1) % len(SMOOTHING)
        self.redraw()

    def action_cursor(self, by: int) -> None:
        """Move the read-out by a fiftieth of the run; past the newest step it goes away."""
        if self._state is None or not self._state.step:
            return
        stride = max(1, self._state.step // 50)
        at = (self._state.step + 1 if self.cursor is None else self.cursor) + by * stride
        self.cursor = None if at > self._state.step else max(1.0, float(at))
        self.redraw()

    def action_overlay(self) -> None:
        """Lay the newest earlier run that is not shown yet over the curves; after the last, none."""
        state = self._state
        if state is None or state.ready is None:
            return
        shown = {overlay.name for overlay in self.overlays} | {state.ready.name}
        left = [run for run in reversed(runs.list_runs()) if run.name not in shown]
        if not left or len(self.overlays) >= len(OVERLAY_STYLES):
            self.overlays = []
        else:
            try:
                series = Series()
                for event in left[0].downsampled().events():
                    if event.kind == "step":
                        series.add(event.step, getattr(event, "loss_ema", None))
                self.overlays.append(Overlay(left[0].name, series.points))
            except RunError as error:
                self.notify(str(error), severity="warning")
        self.redraw()


def merged(changes: Iterable[ev.Changed]) -> list[ev.Changed]:
    """The changes of one key at one step as one, from its first value to its last; none where these are equal."""
    by_place: dict[tuple[int, str], ev.Changed] = {}
    for change in changes:
        place = change.step, change.key
        first = by_place.get(place, change)
        by_place[place] = ev.Changed(step=change.step, key=change.key, old=first.old, new=change.new)
    return [change for change in by_place.values() if change.old != change.new]


def the_best(state: LabState) -> Text:
    """The least validation loss in words, once the curve has turned or the run waits for that."""
    best, patience = state.best, 0 if state.config is None else state.config.train.patience
    if best is None or not (patience or state.worse):
        return Text()
    words = ""
    if state.ending == "patience":
        words = f" · stopped {state.step - best.step:,} steps later (patience {patience})"
    elif state.worse:
        words = f" · no improvement for {state.worse} eval{'s' if state.worse > 1 else ''}" + (
            f" (patience {patience})" if patience else ""
        )
    elif patience:
        words = f" · patience {patience}"
    words += "" if state.restored is None else " · weights restored"
    return Text.assemble(("● ", "yellow"), (f"best {best.val_loss:.4g} at step {best.step:,}", "bold yellow"), words)


def nearest(points: Points, at: float) -> float | None:
    """The value at the point whose step is nearest to `at`."""
    return min(points, key=lambda point: abs(point[0] - at))[1] if points else None

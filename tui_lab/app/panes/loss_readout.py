"""The line above the large chart: the latest values of its curves, or the values at the cursor."""

from rich.text import Text

from tui_lab.app.panes.loss_curves import CHANGE, TRAIN, VALIDATION, ChartView
from tui_lab.app.panes.loss_text import changes_text, merge_changes, nearest
from tui_lab.app.panes.metrics import Metric, metrics_of
from tui_lab.app.screens.run_columns import short
from tui_lab.app.session.state import LabState
from tui_lab.app.widgets.numbers import short_number
from tui_lab.app.widgets.plot import LEAST_WIDTH_FOR_END_LABELS

METRICS_AT_CURSOR = ("loss", "val_loss", "lr", "grad_norm", "update_ratio")
"""After the metric of the chart."""
NAME_WIDTH = 28
NAMES = {"loss": "train", "val_loss": "val"}


def legend(view: ChartView, state: LabState, width: int) -> Text:
    """Return the curves of a chart that is `width` columns wide, each with its latest value, and the last change."""
    metric = view.metric
    text = Text(no_wrap=not view.overlaid, overflow="ellipsis")
    if metric.key == "val_loss":
        text.append(f"o {metric.title} {_latest(metric)}  ", VALIDATION)
    elif metric.key == "loss":
        text.append(f"━ train {_latest(metric)}", TRAIN)
        mean = "  " if state.last is None else f" (mean {short_number(state.last.loss_ema)})  "
        text.append(mean, f"dim {TRAIN}")
        validation = state.curves["val_loss"].last
        text.append(f"o val {'–' if validation is None else short_number(validation)}  ", VALIDATION)
    else:
        text.append(f"━ {metric.title} {_latest(metric)}  ", TRAIN)
    if metric.is_loss and width < LEAST_WIDTH_FOR_END_LABELS and state.chance_loss is not None:
        text.append(f"┄ ln V {short_number(state.chance_loss)}  ", "dim")
    if changes := merge_changes(state.changes):
        text.append(f"┊ {changes_text(changes[-1:])} at {changes[-1].step:,}  ", CHANGE)
    for one in view.overlaid:
        last = short_number(one.overlay.points(metric.key)[-1][1])
        # A line is not broken within the name of a run.
        text.append(f"{one.letter}\xa0", f"bold {one.style}")
        text.append(f"{short(one.overlay.name, NAME_WIDTH)}\xa0{last}".replace(" ", "\xa0"), one.style).append("  ")
    return text


def values_at(view: ChartView, state: LabState, step: float) -> Text:
    """Return the values nearest to `step`; one of another step says which."""
    text = Text(no_wrap=True, overflow="ellipsis")
    text.append(f"step {step:,.0f}  ", "bold")
    metrics = {metric.key: metric for metric in metrics_of(state)}
    for key in [view.metric.key, *(key for key in METRICS_AT_CURSOR if key != view.metric.key)]:
        point = nearest(metrics[key].series.points, step)
        if point is not None:
            at = "" if point[0] == step else f" at {point[0]:,.0f}"
            style = {view.metric.key: TRAIN, "loss": TRAIN, "val_loss": VALIDATION}.get(key, "")
            text.append(f"{NAMES.get(key, metrics[key].title)} {short_number(point[1])}{at}  ", style)
        if key == view.metric.key:
            _append_overlays(text, view, step)
    return text


def after_requested(text: Text, state: LabState) -> Text:
    """Return the text after the changes that were requested and are not in effect yet."""
    changes = state.requested.changes
    if not changes:
        return text
    requested = Text.assemble((f"{changes_text(changes)} requested  ", f"bold {CHANGE}"), text)
    requested.no_wrap = text.no_wrap
    requested.overflow = text.overflow
    return requested


def _append_overlays(text: Text, view: ChartView, step: float) -> None:
    for one in view.overlaid:
        point = nearest(one.overlay.points(view.metric.key), step)
        value = "" if point is None else short_number(point[1])
        text.append(f"{one.letter} {value}  ", one.style)


def _latest(metric: Metric) -> str:
    if metric.series.last is None:
        return "–"
    return f"{short_number(metric.series.last)} {metric.unit}".rstrip()

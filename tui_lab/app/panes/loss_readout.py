"""The line above the large chart: the latest values of its curves, or the values at the cursor."""

import math
from collections.abc import Iterable, Iterator, Sequence

from rich.text import Text

from tui_lab.app.panes.loss_curves import CHANGE, TRAIN, VALIDATION, ChartView, shown_metrics
from tui_lab.app.panes.loss_text import changes_text, nearest
from tui_lab.app.panes.metrics import Metric
from tui_lab.app.panes.overlays import Overlaid
from tui_lab.app.session.state import LabState
from tui_lab.app.widgets.packed import packed
from tui_lab.core import events as ev
from tui_lab.runs.live_changes import merge_changes
from tui_lab.runs.names import short_name
from tui_lab.runs.numbers import short_number
from tui_lab.text.plot import LEAST_WIDTH_FOR_END_LABELS

METRICS_AT_CURSOR = ("loss", "val_loss", "lr", "grad_norm", "update_ratio")
"""After the metric of the chart."""
NAME_WIDTH = 28
NEAR_SHARE = 0.005
"""Of the run: values that are not farther from the cursor are shown without their step."""
NAMES = {"loss": "train", "val_loss": "val"}


def legend(view: ChartView, state: LabState, width: int) -> Text:
    """Return the curves of a chart, each with its latest value, and the last change; in lines of `width` columns."""
    metric = view.metric
    items = []
    if metric.key == "val_loss":
        items.append(Text(f"o {metric.title} {_latest(metric)}", VALIDATION))
    elif metric.key == "loss":
        items.append(Text(f"━ train {_latest(metric)}", TRAIN))
        validation = state.curves["val_loss"].last
        if not view.backdrop.hides_validation:
            items.append(Text(f"o val {'–' if validation is None else short_number(validation)}", VALIDATION))
    else:
        points = metric.series.points
        at = f" at {points[-1][0]:,.0f}" if points and points[-1][0] < state.step else ""
        items.append(Text(f"━ {metric.title} {_latest(metric)}{at}", TRAIN))
    is_narrow = width < LEAST_WIDTH_FOR_END_LABELS and not view.backdrop.hides_references
    if metric.is_loss and is_narrow and state.chance_loss is not None:
        items.append(Text(f"┄ ln V {short_number(state.chance_loss)}", "dim"))
    items += [_overlaid(one, metric.key) for one in view.overlaid]
    if changes := merge_changes(state.changes):
        room = math.inf if view.overlaid else width - sum(item.cell_len + 2 for item in items)
        items.append(Text(_last_changes(changes, room), CHANGE))
    if view.overlaid:
        return packed(items, width)
    return _line(items, width)


def _last_changes(changes: Sequence[ev.Changed], room: float) -> str:
    """Return the changes at the latest step with one; the last and how many there are besides, if all have no room."""
    step = changes[-1].step
    at_step = [change for change in changes if change.step == step]
    texts = [changes_text([change]) for change in at_step]
    for each in (texts, [text.partition(".")[2] for text in texts]):
        text = f"┊ {', '.join(each)} at {step:,}"
        if len(at_step) == 1 or len(text) <= room:
            return text
    return f"┊ {changes_text(at_step[-1:])} +{len(at_step) - 1} at {step:,}"


def _overlaid(one: Overlaid, metric: str) -> Text:
    last = short_number(one.overlay.points(metric)[-1][1])
    name = short_name(one.overlay.name, NAME_WIDTH)
    return Text.assemble((f"{one.letter} ", f"bold {one.style}"), (f"{name} {last}", one.style))


def values_at(view: ChartView, state: LabState, step: float, width: int) -> Text:
    """Return the values nearest to `step`, on as many lines as the legend; one of a step farther away says which."""
    items = [Text(f"step {step:,.0f}", "bold")]
    metrics = {metric.key: metric for metric in shown_metrics(state, view.backdrop)}
    for key in [view.metric.key, *(key for key in METRICS_AT_CURSOR if key in metrics and key != view.metric.key)]:
        point = nearest(metrics[key].series.points, step)
        if point is not None:
            is_near = abs(point[0] - step) <= state.step * NEAR_SHARE
            at = "" if is_near else f" at {point[0]:,.0f}"
            style = {view.metric.key: TRAIN, "loss": TRAIN, "val_loss": VALIDATION}.get(key, "")
            items.append(Text(f"{NAMES.get(key, metrics[key].title)} {short_number(point[1])}{at}", style))
        if key == view.metric.key:
            items += _overlay_values(view, step)
    if not view.overlaid:
        return _line(items, width)
    # The chart does not move while the mouse points at it.
    n_lines = legend(view, state, width).plain.count("\n") + 1
    lines = [*packed(items, width).split("\n"), *(Text() for _ in range(n_lines))]
    return Text("\n").join(lines[:n_lines])


def _line(items: Iterable[Text], width: int) -> Text:
    """Return as many items, at least one, as fit into a line: half a number would be a wrong one."""
    shown: list[Text] = []
    for item in items:
        if shown and sum(each.cell_len + 2 for each in shown) + item.cell_len > width:
            break
        shown.append(item)
    text = Text("  ").join(shown)
    text.no_wrap = True
    text.overflow = "ellipsis"
    return text


def requested_text(state: LabState) -> str:
    """Return the changes that were requested and are not in effect yet."""
    changes = state.requested.changes
    return f"{changes_text(changes)} requested  " if changes else ""


def after_requested(text: Text, state: LabState) -> Text:
    """Return the text after the changes that were requested and are not in effect yet."""
    start = requested_text(state)
    if not start:
        return text
    requested = Text.assemble((start, f"bold {CHANGE}"), text)
    requested.no_wrap = text.no_wrap
    requested.overflow = text.overflow
    return requested


def _overlay_values(view: ChartView, step: float) -> Iterator[Text]:
    for one in view.overlaid:
        point = nearest(one.overlay.points(view.metric.key), step)
        if point is not None:
            yield Text(f"{one.letter} {short_number(point[1])}", one.style)


def _latest(metric: Metric) -> str:
    return "–" if metric.series.last is None else short_number(metric.series.last)

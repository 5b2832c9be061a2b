"""Texts of the screen that looks inside a model: with which weights it was measured, and what the colors mean."""

from rich.text import Text

from tui_lab.app.screens.attention_text import Example
from tui_lab.app.screens.inside.layers import LayersView
from tui_lab.app.screens.inside.lens import LensView
from tui_lab.app.screens.inside.view import InsideView, one_line
from tui_lab.app.screens.inside.views import InsideViews
from tui_lab.app.session.inside_source import Inside
from tui_lab.app.session.state import LabState
from tui_lab.app.widgets.heatmap import Ramp
from tui_lab.runs.inside_text import own_layer_name
from tui_lab.util.escape import printable

WAITING = "waiting for the next step"


def about(state: LabState, view: InsideView, measured: Inside | None, why_not: str, *, is_live: bool = False) -> Text:
    """Return two lines: what was measured with which weights, and the main finding or why there is none.

    why_not: why this view has no example. is_live: whether the view draws the events of the run.
    """
    if why_not:
        return one_line(f"({state.phase})\n", Text(printable(why_not), "dim"))
    if is_live:
        return one_line(f"step {state.step:,} ({state.phase}); measured every 50 steps\n", view.summary())
    if measured is None:
        return one_line(f"no measurement yet ({state.phase})\n", Text(WAITING, "dim"))
    assert state.ready is not None
    example = Example(measured.rows, measured.row, state.ready.tokenizer)
    second = Text(printable(measured.result)) if isinstance(measured.result, str) else view.summary()
    return one_line(f"{weights_text(measured)} ({state.phase}); {example.title}\n", second)


def weights_text(measured: Inside) -> str:
    """Return with which weights it was measured, and what it cost the trainer if that is much."""
    if measured.step < 0:
        return "no weights"
    if measured.weights is None:
        cost = f", took {measured.seconds:.1f} s" if measured.seconds >= 0.5 else ""
        return f"weights of step {measured.step:,}{cost}"
    return f"{'best weights, of' if measured.weights.best else 'weights of'} step {measured.weights.step:,}"


def tabs(views: InsideViews) -> Text:
    """Return the line of views with their keys, and what the lens applies."""
    parts = [(f" {i + 1} {view.title} ", "reverse" if i == views.number else "") for i, view in enumerate(views.every)]
    return one_line(("inside ", "bold"), Text(" ").join(Text(*part) for part in parts), "  ", footnote(views.view))


def footnote(view: InsideView) -> Text:
    """Return what the lens applies to the residual stream, or which layer of a user's model is the first."""
    if isinstance(view, LensView) and view.lens is not None:
        return Text(f"read out by: {printable(view.lens.read_out)}", "dim")
    return Text(printable(own_layer_name(view.layer_names)), "dim")


def below(view: InsideView, ramp: Ramp) -> Text:
    """Return three lines: the selected cell, and what the colors mean and which part is shown."""
    selection = view.selection()
    lines = selection.split("\n", allow_blank=True)
    text = Text("\n").join([*lines, Text("")][:2])
    text.append("\n").append_text(legend(view, ramp))
    part = view.part_shown()
    text.append(f"  {part}" if part else "", "dim")
    text.no_wrap = True
    text.overflow = "ellipsis"
    return text


def legend(view: InsideView, ramp: Ramp) -> Text:
    """Return the color of some values, and what they stand for."""
    if isinstance(view, LayersView):
        return Text(view.measure_text, "dim")
    text = Text(style="dim")
    for value, level in ramp.legend():
        sign = Text("█", ramp.color(level)) if ramp.colors else Text(ramp.sign(level))
        text.append_text(sign).append(f" {value:g} ")
    return text.append(f" {view.measure_text}")

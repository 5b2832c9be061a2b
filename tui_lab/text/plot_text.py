"""A plot as text: for a command that draws a chart outside of the app."""

from rich.text import Text

from tui_lab.text.plot import MUTED, Plot


def plot_text(plot: Plot) -> Text:
    """Return the lines of a plot; the labels of its axes are dim."""
    lines = []
    for chars, styles in zip(plot.chars, plot.styles, strict=True):
        line = Text(no_wrap=True, end="")
        for char, style in zip(chars, styles, strict=True):
            line.append(char, "dim" if style == MUTED else style)
        lines.append(line)
    return Text("\n").join(lines)

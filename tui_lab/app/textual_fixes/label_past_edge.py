"""textual-hires-canvas 0.14.0: a centered text near the right edge loses its end, so the label 4500 reads 450.

Such a text is moved to the left until it fits.
"""

from rich.text import Text
from textual_hires_canvas import TextAlign

from tui_lab.app.textual_fixes.blank_line_style import StyledCanvas


class LabelCanvas(StyledCanvas):
    def write_text(self, x: int, y: int, text: str, align: TextAlign = TextAlign.LEFT) -> None:
        length = len(Text.from_markup(text).plain)
        if align == TextAlign.CENTER:
            n_right_of_x = (length + 1) // 2 if length % 2 else length // 2 + 1
            x = min(x, self._canvas_size.width - n_right_of_x)
        super().write_text(x, y, text, align)

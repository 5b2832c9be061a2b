"""textual-hires-canvas 0.14.0 with Textual 8.2.8: a canvas without columns ends the app under NO_COLOR.

`Canvas.render_line` returns a segment without a style, and the filter that Textual applies under NO_COLOR cannot handle
one. Every line has a style here.
"""

from textual.strip import Strip
from textual_hires_canvas import Canvas


class StyledCanvas(Canvas):
    def render_line(self, y: int) -> Strip:
        strip = super().render_line(y)
        return strip if strip.cell_length else Strip.blank(0, self.rich_style)

"""Textual 8.2.8: a change of a widget's `virtual_size` lays out the whole screen.

`Widget.virtual_size` is declared with layout=True. An Input sets it at every key, and a scrolled view at every line
that is added: scrollbars are painted everywhere, which takes longer than the letter itself. Declare `virtual_size`
again with this function where the widget's own size does not depend on its content.
"""

from textual.geometry import Size
from textual.reactive import Reactive


def size_without_layout() -> Reactive[Size]:
    return Reactive(Size(0, 0))

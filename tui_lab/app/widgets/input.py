"""A line to type into."""

from textual.geometry import Size
from textual.reactive import Reactive, reactive
from textual.widgets import Input


class Field(Input):
    """An Input whose cursor does not blink, and that takes as much room whatever is typed: the screen is not laid out
    anew at every key, which painted scrollbars everywhere and took longer than the letter itself (Textual 8.2.8)."""

    cursor_blink = reactive(False, init=False)
    virtual_size = Reactive(Size(0, 0))

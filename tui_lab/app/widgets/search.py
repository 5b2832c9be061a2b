"""The line of a search in a list or a text, opened by `/`."""

from textual.binding import Binding
from textual.message import Message
from textual.widgets import Input

from tui_lab.app.widgets.input import Field

OPEN = Binding("slash", "search", "Search", show=False)


class SearchField(Field):
    """Posts `Searched` while the user types. Enter goes back to what is searched; Escape does too and ends the search.

    Hidden until `open` is called, and again after the end.
    """

    DEFAULT_CSS = """
    SearchField { display: none; height: 1; border: none; padding: 0 1; background: $boost; }
    SearchField:focus { border: none; background: $primary-muted; text-style: bold; }
    """
    BINDINGS = [
        Binding("enter", "submit", "Keep"),
        Binding("escape", "end_search", "End the search"),
    ]

    class Searched(Message):
        """The text has changed; empty at the end of the search."""

        def __init__(self, text: str) -> None:
            super().__init__()
            self.text = text

    def __init__(self, searched: str, placeholder: str, id: str | None = None) -> None:
        """searched: a selector of the widget on the screen that has the focus while nothing is typed."""
        super().__init__(placeholder=placeholder, id=id)
        self._searched = searched

    def open(self) -> None:
        self.display = True
        # At once: the next keys of a burst are part of the text.
        self.screen.set_focus(self)

    @property
    def is_open(self) -> bool:
        return self.display

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        self.post_message(self.Searched(event.value.strip().lower()))

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self._leave()
        self.display = bool(self.value.strip())

    def action_end_search(self) -> None:
        self.value = ""
        self._leave()
        self.display = False

    def _leave(self) -> None:
        self.screen.set_focus(self.screen.query_one(self._searched))

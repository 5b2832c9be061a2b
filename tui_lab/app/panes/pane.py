"""A bordered part of the lab, shown by a number key."""

from rich.text import Text
from textual.containers import Vertical
from textual.widgets import Static

from tui_lab.app.session.state import LabState
from tui_lab.app.widgets.static_text import update_text


class Pane(Vertical):
    """Base class. `number` and `title` are shown in the border; `help_name` is the name of its page in help/."""

    number = 0
    title = ""
    help_name = ""
    main = ""
    """A selector of the widget that gets the focus."""

    def on_mount(self) -> None:
        self.border_title = f"{self.number} {self.title}"

    def show(self, state: LabState, now: float) -> None:
        """Draw what has changed in `state`. Called up to ten times a second while the pane is visible."""
        raise NotImplementedError

    def put(self, selector: str, text: Text | str, *, layout: bool = False) -> None:
        """Update a Static if its text has changed. layout: whether its height may have changed."""
        update_text(self.query_one(selector, Static), text, layout=layout)

"""A bordered part of the lab that a number key goes to."""

from rich.text import Text
from textual.containers import Vertical
from textual.widgets import Static

from tui_lab.app.session.state import LabState


class Pane(Vertical):
    """`number` and `title` stand in its border; `help_name` names its page in help/."""

    number = 0
    title = ""
    help_name = ""
    main = ""
    """A selector of what takes the focus."""

    def on_mount(self) -> None:
        self.border_title = f"{self.number} {self.title}"

    def show(self, state: LabState, now: float) -> None:
        """Draw what is new in `state`; called ten times a second, only while the pane can be seen."""
        raise NotImplementedError

    def put(self, selector: str, text: Text | str, *, layout: bool = False) -> None:
        """Update a Static only where its text has changed; layout only where its height may."""
        widget = self.query_one(selector, Static)
        if widget.content != text:
            widget.update(text, layout=layout)

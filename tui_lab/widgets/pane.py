"""A bordered part of the lab that a number key goes to."""

from textual.containers import Vertical

from tui_lab.live.state import LabState


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

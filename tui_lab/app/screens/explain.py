"""One finding in full: title, evidence with its drawing, why it matters, and the fix."""

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.screen import ModalScreen
from textual.widgets import Static

from tui_lab.app.clipboard import copy
from tui_lab.app.textual_fixes.base_screen import BaseScreen
from tui_lab.app.widgets.scrolled import Page
from tui_lab.core.doctor.findings import Finding
from tui_lab.util.escape import printable


def explained(finding: Finding, parts: tuple[str, ...] = ("evidence", "why", "fix")) -> Text:
    """Return some parts of a finding, each after its name; the drawing follows the evidence."""
    text = Text()
    for name in parts:
        text.append(f"{name}: ", "bold").append(f"{printable(getattr(finding, name))}\n")
        if name == "evidence":
            for line in finding.drawing:
                text.append(f"  {printable(line)}\n", "cyan")
    return text


class Explain(BaseScreen[None], ModalScreen[None]):
    CSS_PATH = "help.tcss"
    BINDINGS = [
        Binding("escape,q,enter", "dismiss(None)", "Close"),
        Binding("y", "copy", "Copy", show=False),
    ]

    def __init__(self, finding: Finding) -> None:
        super().__init__()
        self._finding = finding

    def compose(self) -> ComposeResult:
        with Page(id="page"):
            yield Static(Text.assemble((f"{self._finding.title}\n\n", "bold"), explained(self._finding)))

    def action_copy(self) -> None:
        copy(self.app, f"{self._finding.title} ({self._finding.code})\n{explained(self._finding).plain}".rstrip())

    def on_mount(self) -> None:
        page = self.query_one("#page")
        page.border_title = self._finding.code
        page.border_subtitle = "y copy · Esc close"
        page.focus()

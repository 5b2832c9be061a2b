"""The help screen: a page, all keys of the lab, and the glossary."""

import importlib.resources

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.screen import ModalScreen

from tui_lab.app.actions import COMMANDS, key_of
from tui_lab.app.textual_fixes.base_screen import BaseScreen


def page(name: str) -> str:
    """Return a page of help/ in Markdown."""
    return (importlib.resources.files("tui_lab.app") / "help" / f"{name}.md").read_text("utf-8")


def keys() -> str:
    """Return the keys of all commands of the lab, by group, in Markdown."""
    lines = ["## All keys"]
    for group in dict.fromkeys(command.group for command in COMMANDS):
        lines += [f"\n**{group}**\n", "| key | what it does |", "|---|---|"]
        lines += [f"| `{key_of(c)}` | {c.title}: {c.help} |" for c in COMMANDS if c.group == group]
    return "\n".join(lines)


class Help(BaseScreen[None], ModalScreen[None]):
    CSS_PATH = "help.tcss"
    BINDINGS = [Binding("escape,q,question_mark", "dismiss(None)", "Close")]

    def __init__(self, name: str) -> None:
        super().__init__()
        self._page = name

    def compose(self) -> ComposeResult:
        from textual.widgets import Markdown  # Imported late: slow, and the first frame does not need it.

        with VerticalScroll(id="page"):
            yield Markdown("\n\n".join([page(self._page), keys(), page("glossary")]), open_links=False)

    def on_mount(self) -> None:
        scroll = self.query_one("#page")
        scroll.border_title = "Help"
        scroll.border_subtitle = "Esc close"
        scroll.focus()

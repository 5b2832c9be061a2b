"""The help screen: a page, all keys of the lab, and the glossary."""

import importlib.resources

from textual.app import ComposeResult
from textual.binding import Binding
from textual.screen import ModalScreen

from tui_lab.app.actions import COMMANDS, Command, why_not
from tui_lab.app.keymap import Keymap, keymap_of
from tui_lab.app.textual_fixes.base_screen import BaseScreen
from tui_lab.app.widgets.scrolled import Page
from tui_lab.core.config.script import RunConfig, ScriptConfig


def page(name: str, *, is_script: bool = False) -> str:
    """Return a page of help/ in Markdown; for the run of a script, its own page if there is one."""
    folder = importlib.resources.files("tui_lab.app") / "help"
    own = folder / f"script_{name}.md"
    return (own if is_script and own.is_file() else folder / f"{name}.md").read_text("utf-8")


def keys(config: RunConfig | None, keymap: Keymap) -> str:
    """Return the keys of all commands of the lab, by group, in Markdown; last those that the run does not have."""

    def key_cell(command: Command) -> str:
        key = keymap.key_of(command)
        return f"`{key}`" if key else "palette"

    lines = ["## All keys"]
    if elsewhere := keymap.changed_elsewhere():
        lines += ["\n**Your own keys of panes and other screens**\n", "| key | what it does |", "|---|---|"]
        lines += [f"| `{key}` | {place}: {about} |" for place, key, about in elsewhere]
    usable = [command for command in COMMANDS if not why_not(command.id, config)]
    for group in dict.fromkeys(command.group for command in usable):
        lines += [f"\n**{group}**\n", "| key | what it does |", "|---|---|"]
        lines += [f"| {key_cell(c)} | {c.title}: {c.help} |" for c in usable if c.group == group]
    if len(usable) < len(COMMANDS):
        lines += ["\n**Not available for a script**\n", "| key | why |", "|---|---|"]
        lines += [f"| {key_cell(c)} | {c.title}: {why_not(c.id, config)} |" for c in COMMANDS if c not in usable]
    return "\n".join(lines)


class Help(BaseScreen[None], ModalScreen[None]):
    CSS_PATH = "help.tcss"
    BINDINGS = [Binding("escape,q,question_mark", "dismiss(None)", "Close")]

    def __init__(self, name: str, config: RunConfig | None = None) -> None:
        """config: of the run that is shown, if any."""
        super().__init__()
        self._page = name
        self._config = config

    def compose(self) -> ComposeResult:
        from textual.widgets import Markdown  # Imported late: slow, and the first frame does not need it.

        with Page(id="page"):
            is_script = isinstance(self._config, ScriptConfig)
            pages = [page(self._page, is_script=is_script), *([page("script")] if is_script else [])]
            yield Markdown(
                "\n\n".join([*pages, keys(self._config, keymap_of(self.app)), page("glossary")]), open_links=False
            )

    def on_mount(self) -> None:
        scroll = self.query_one("#page")
        scroll.border_title = "Help"
        scroll.border_subtitle = "Esc close"
        scroll.focus()

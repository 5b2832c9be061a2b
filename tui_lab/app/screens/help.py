"""The help screen: a page, all keys of the lab, and the glossary."""

import importlib.resources

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Static

from tui_lab.app.actions import COMMANDS, Command, why_not
from tui_lab.app.keymap import Keymap, keymap_of
from tui_lab.app.screens.help_text import Block, draw, entry, matching, parse
from tui_lab.app.textual_fixes.base_screen import BaseScreen
from tui_lab.app.widgets.scrolled import Page
from tui_lab.app.widgets.search import OPEN, SearchField
from tui_lab.core.config import script
from tui_lab.core.config.script import ImportedConfig, RunConfig, ScriptConfig

LIVE_SETTINGS = {
    "optim.lr_factor": "the learning rate (a factor on top of the script's own schedule)",
    "optim.weight_decay": "weight decay",
    "optim.grad_clip": "gradient clipping",
    "model.dropout": "dropout",
}
"""What the settings are called that may be changed while a script trains."""


def page(name: str, *, is_script: bool = False) -> str:
    """Return a page of help/ in Markdown; for the run of a script, its own page if there is one."""
    folder = importlib.resources.files("tui_lab.app") / "help"
    script_page_file = folder / f"script_{name}.md"
    return (script_page_file if is_script and script_page_file.is_file() else folder / f"{name}.md").read_text("utf-8")


def script_page(config: ScriptConfig) -> str:
    """Return the page about the runs of scripts, with the settings that can be changed in this one."""
    names = [LIVE_SETTINGS[key] for key in script.live_keys(config)]
    changeable = (
        f"What can be changed: {', '.join(names)}. `u` reverts a change." if names else "No setting can be changed."
    )
    return page("script").replace("LIVE_SETTINGS", changeable)


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
    BINDINGS = [
        OPEN,
        Binding("escape", "back", "Close"),
        Binding("q,question_mark,f1", "dismiss(None)", "Close", show=False),
    ]

    def __init__(self, name: str, config: RunConfig | None = None, *, term: str = "") -> None:
        """config: of the run that is shown, if any. term: an entry of the glossary, which is then shown alone."""
        super().__init__()
        self._page = name
        self._config = config
        self._term = term
        self._blocks: list[Block] = []
        self.shown: list[Block] = []
        """Those that match the search."""

    def compose(self) -> ComposeResult:
        with Vertical(id="box"):
            yield SearchField("#page", "part of a key, a command or a word of the glossary")
            with Page(id="page"):
                yield Static(id="text")

    def on_mount(self) -> None:
        pages = [page(self._page, is_script=isinstance(self._config, ScriptConfig))]
        if isinstance(self._config, ScriptConfig):
            is_imported = isinstance(self._config, ImportedConfig)
            pages.append(page("imported") if is_imported else script_page(self._config))
        pages += [page("status")] if self._config is not None else []
        pages += [keys(self._config, keymap_of(self.app)), page("glossary")]
        self._blocks = [block for each in pages for block in parse(each)]
        box = self.query_one("#box")
        box.border_title = "Glossary" if self._term else "Help"
        box.border_subtitle = "/ search · Esc close"
        self.query_one(Page).focus()
        if self._term:
            self._blocks = parse(page("glossary"))
            self.shown = entry(self._blocks, self._term) or matching(self._blocks, self._term.lower())
            self._draw("")
        else:
            self._show("")

    def _show(self, search: str) -> None:
        self.shown = matching(self._blocks, search)
        self._draw(search)

    def _draw(self, search: str) -> None:
        text = draw(self.shown, search) if self.shown else Text(f"Nothing contains {search!r}.", "dim")
        self.query_one("#text", Static).update(text)
        self.query_one(Page).scroll_home(animate=False)

    def on_search_field_searched(self, message: SearchField.Searched) -> None:
        self._show(message.text)

    def action_search(self) -> None:
        self.query_one(SearchField).open()

    def action_back(self) -> None:
        """End the search, then close."""
        field = self.query_one(SearchField)
        if field.is_open:
            field.action_end_search()
        else:
            self.dismiss(None)

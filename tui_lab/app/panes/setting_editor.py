"""Below the list of settings: what the selected one means, a field for its value, and the parameter count."""

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.suggester import SuggestFromList
from textual.widgets import Input, Static

from tui_lab.app.actions import BY_ID
from tui_lab.app.keymap import keymap_of
from tui_lab.app.panes.edited_settings import EditedSettings
from tui_lab.app.panes.setting_text import (
    about_text,
    choices,
    parameters_text,
)
from tui_lab.app.panes.settings_list import requested_text
from tui_lab.app.widgets.input import Field
from tui_lab.core import events as ev
from tui_lab.core.config.schema import Config
from tui_lab.core.config.script import ImportedConfig, RunConfig
from tui_lab.core.runs.fork_fit import misfits
from tui_lab.util.escape import printable


class SettingEditor(Vertical):
    def compose(self) -> ComposeResult:
        yield Static(id="about")
        yield Field(id="value", select_on_focus=True)
        yield Static(id="problem")
        yield Static(id="parameters")

    @property
    def field(self) -> Input:
        return self.query_one("#value", Input)

    def show_setting(self, settings: EditedSettings, key: str) -> None:
        """Describe a setting; its value goes into the field unless the user is typing there."""
        text = about_text(settings.edited, key)
        if key == "optim.lr" and not settings.of_script:
            text.append(f"  {keymap_of(self.app).key_of(BY_ID['find_rate'])} finds one", "bold")
        if settings.is_changed(key):
            text.append(f"  started as {settings.shown_initial_value(key)}", "italic")
        if key in settings.requested:
            text.append(f"  {requested_text(settings, key, 100)} requested", "bold italic")
        elif settings.waits(key) and not settings.of_script:
            text.append(f"  {waits_for(settings, key)}", "bold")
        self.query_one("#about", Static).update(text)
        if not self.field.has_focus:
            self.show_value(settings, key)

    def show_value(self, settings: EditedSettings, key: str) -> None:
        """Put the value of a setting into the field, and offer its choices there."""
        names = choices(settings.edited, key)
        self.field.suggester = SuggestFromList(names) if names else None
        with self.field.prevent(Input.Changed):
            self.field.value = settings.shown_value(key)
        self.show_problem("")
        self.remove_class("-wrong")

    def show_problem(self, problem: str, *, of_field: bool = False) -> None:
        """Say what is wrong; nothing if it is empty. of_field: mark what is typed as wrong, or as right."""
        self.query_one("#problem", Static).update(Text(f"✗ {printable(problem)}", "bold") if problem else "")
        if of_field:
            self.set_class(bool(problem), "-wrong")

    def show_parameters(self, config: RunConfig, started: ev.Started, *, formula: bool) -> None:
        """Show the parameter count, of our own model with its `formula`."""
        if isinstance(config, Config):
            text = parameters_text(config, started.n_vocab, formula=formula)
        elif isinstance(config, ImportedConfig):
            text = Text(f"imported from a log ({printable(config.source.format)})", "dim")
        else:
            text = Text.assemble((f"{started.parameters:,}", "bold"), f" parameters  {printable(config.model.name)}")
        self.query_one("#parameters", Static).update(text)


def waits_for(settings: EditedSettings, key: str) -> str:
    """Return with which keys an edit takes effect."""
    old, new = settings.running, settings.edited
    can_fork = not (isinstance(old, Config) and isinstance(new, Config) and key in misfits(old, new))
    return "needs restart: r restart, f fork" if can_fork else "only a restart (r) changes it"

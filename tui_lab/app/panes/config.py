"""The config pane: every setting, edited in place and checked while typing."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.message import Message
from textual.widgets import DataTable, Input

from tui_lab.app.keymap import named
from tui_lab.app.panes.copied import setting_line
from tui_lab.app.panes.edited_settings import EditedSettings
from tui_lab.app.panes.pane import Pane
from tui_lab.app.panes.setting_editor import SettingEditor
from tui_lab.app.panes.setting_steps import step_of
from tui_lab.app.panes.setting_text import parse_value, value_of
from tui_lab.app.panes.settings_list import SettingsList
from tui_lab.app.session.state import LabState
from tui_lab.app.widgets.search import SearchField
from tui_lab.core import commands as cmd
from tui_lab.core import events as ev
from tui_lab.core.config import script
from tui_lab.core.config.script import RunConfig
from tui_lab.core.user_code import trust
from tui_lab.util.errors import ConfigError


class ConfigPane(Pane):
    number = 1
    title = "Config"
    help_name = "config"
    shows_latest = True
    main = "#settings"
    hints: Sequence[str] = (
        "Enter edit",
        "+ - change",
        "/ search",
        "x reset",
        "v changed only",
        "p formula",
        "Ctrl+S save",
    )

    BINDINGS = named(
        "config",
        Binding("escape", "cancel", "Cancel", show=False),
        Binding("plus,equals_sign", "step(1)", "Raise", show=False),
        Binding("minus", "step(-1)", "Lower", show=False),
        Binding("slash", "search", "Search", show=False),
        Binding("x", "reset", "Reset", show=False),
        Binding("v", "only_changed", "Changed only", show=False),
        Binding("p", "formula", "Parameter formula", show=False),
    )

    class ValueSet(Message):
        """The user entered a valid value for a setting."""

        def __init__(self, key: str, value: Any) -> None:
            super().__init__()
            self.key = key
            self.value = value

    def __init__(self, id: str, send: Callable[[cmd.Command], None]) -> None:
        super().__init__(id=id)
        self._send = send
        self.can_steer = False
        """Whether live settings can be changed in the run now."""
        self.settings: EditedSettings | None = None
        """None before the run is open."""
        self._shown: object = None
        """What is drawn of the state."""
        self._described_key: str | None = None
        self._started: ev.Started | None = None
        self._formula = False
        self._list = SettingsList(id="settings", edit=self._edit)
        self._editor = SettingEditor(id="editor")

    def compose(self) -> ComposeResult:
        yield self._list
        yield SearchField("#settings", "part of a setting's name", id="search")
        yield self._editor

    def show(self, state: LabState, now: float) -> None:
        """Take over the settings that changed in the run; those that the user edited stay until they are reset."""
        if state.config is None or state.ready is None:
            self.hints = ()
            self.show_hints()
            return
        if self.settings is None:
            self.settings = EditedSettings(state.ready.config, state.config)
        shown = (state.config, state.started, state.requested.values, self.can_steer)
        if shown == self._shown:
            return
        self._shown = shown
        self.settings.follow(state.config)
        self.settings.await_changes(state.requested.values)
        self._started = state.started
        self.fill()

    @property
    def key(self) -> str | None:
        """The setting under the cursor."""
        return self._list.key

    @property
    def edited(self) -> RunConfig | None:
        """The settings in effect, with the user's edits; None before the run is open."""
        return None if self.settings is None else self.settings.edited

    def copied(self) -> str:
        if self.key is None or self.edited is None:
            return ""
        if self.key == "faults" and self.settings is not None:
            return f"faults: {self.settings.shown_value(self.key)}"
        return setting_line(self.key, value_of(self.edited, self.key))

    def reveal_faults(self) -> None:
        """Show the names of the planted faults, which the doctor has found."""
        if self.settings is not None and self.settings.hides_faults:
            self.settings.hides_faults = False
            self.fill()

    def fill(self) -> None:
        """Redraw the list, the description and the parameter count."""
        if self.settings is not None:
            self._list.show_settings(self.settings)
            self._show_about()
            self._show_parameters(self.edited)

    @on(DataTable.RowHighlighted)
    def _show_about(self, highlighted: DataTable.RowHighlighted | None = None) -> None:
        if highlighted is not None and self.key == self._described_key:
            return  # On a busy machine it comes late, for a row that is described already: its problem must stay.
        self.hints = _keys(self.settings, self.key, can_steer=self.can_steer)
        self.show_hints()
        if self.key is not None and self.settings is not None:
            self._described_key = self.key
            self._editor.show_setting(self.settings, self.key)

    def _show_parameters(self, config: RunConfig | None) -> None:
        if config is not None and self._started is not None:
            self._editor.show_parameters(config, self._started, formula=self._formula)

    @on(DataTable.RowSelected)
    def _edit(self) -> None:
        if self.key is None or self.settings is None:
            return
        if reason := self.settings.why_fixed(self.key, can_steer=self.can_steer):
            self._editor.show_problem(reason)
            return
        self.focus_now(self._editor.field)

    @on(Input.Changed, "#value")
    def _typed(self, event: Input.Changed) -> None:
        candidate, problem = self._parse(event.value)
        self._editor.show_problem(problem, of_field=True)
        if candidate is not None:
            self._show_parameters(candidate)

    @on(Input.Submitted, "#value")
    def _submitted(self, event: Input.Submitted) -> None:
        if self.key is None:
            return
        try:
            self.enter(self.key, event.value)
        except ConfigError:
            return  # The field shows what is wrong.
        self.focus_now(self._list)

    def enter(self, key: str, text: str) -> None:
        """Set a setting to the value that the user typed. Raises ConfigError."""
        if self.edited is None:
            return
        value = value_of(_with_typed(self.edited, key, text), key)
        if key == "model.source" and value:
            with suppress(ConfigError):  # The trainer reports that the file does not exist.
                trust.allow(value)
        self.set_value(key, value)

    def set_value(self, key: str, value: Any) -> None:
        """Set a setting to a valid value and post `ValueSet`. Raises ConfigError."""
        if self.settings is None:
            return
        self.settings.edit(key, value)
        if self.can_steer and self.settings.is_live(key):
            self.settings.end_edit(key)
        self.post_message(self.ValueSet(key, value))
        self.fill()

    def _parse(self, text: str) -> tuple[RunConfig | None, str]:
        """Return the settings with the typed value, or None and what is wrong with it."""
        if self.key is None or self.edited is None:
            return None, ""
        try:
            return _with_typed(self.edited, self.key, text), ""
        except ConfigError as error:
            return None, str(error.problems[0])

    def action_search(self) -> None:
        """Type a part of a name; only settings that contain it are listed."""
        self.query_one(SearchField).open()

    def on_search_field_searched(self, message: SearchField.Searched) -> None:
        self._list.search = message.text
        self.fill()

    def action_cancel(self, key: str | None = None) -> None:
        """Leave the field, and list all settings again. key: then select this one."""
        self.query_one(SearchField).action_end_search()
        if key is not None:
            self._list.reveal(key)
        if self.key is not None and self.settings is not None:
            self._editor.show_value(self.settings, self.key)

    def action_reset(self) -> None:
        if self.key is None or self.settings is None:
            return
        if self.settings.why_fixed(self.key, can_steer=self.can_steer):
            return
        self._reset(self.settings, self.key)

    def undo_edit(self) -> str | None:
        """Take back the last pending edit; return its setting, or None if there was none."""
        key = None if self.settings is None else self.settings.last_edited_key
        if key is not None and self.settings is not None:
            self._reset(self.settings, key)
        return key

    def _reset(self, settings: EditedSettings, key: str) -> None:
        try:
            self.set_value(key, settings.value_after_reset(key))
        except ConfigError as error:
            self._editor.show_problem(str(error.problems[0]))

    def action_step(self, direction: int) -> None:
        """Raise or lower the setting under the cursor: at once if it is live, or else in the edited settings."""
        key = self.key
        settings = self.settings
        if key is None or settings is None:
            return
        command = step_of(settings.edited, key, direction)
        if reason := settings.why_fixed(key, can_steer=self.can_steer):
            self._editor.show_problem(reason)
        elif command is None:
            self._editor.show_problem("has no order: press Enter and type a value")
        elif self.can_steer and settings.is_live(key):
            settings.end_edit(key)
            self._send(command)
        else:
            try:
                self.set_value(key, cmd.changed_value(command, settings.edited))
            except ConfigError as error:
                self._editor.show_problem(str(error.problems[0]))

    def action_only_changed(self) -> None:
        self._list.only_changed = not self._list.only_changed
        self.fill()

    def action_formula(self) -> None:
        self._formula = not self._formula
        self._show_parameters(self.edited)


def _with_typed(config: RunConfig, key: str, text: str) -> RunConfig:
    """Return the settings with what the user typed as the value of `key`. Raises ConfigError."""
    return script.changed(config, key, parse_value(config, key, text))


def _keys(settings: EditedSettings | None, key: str | None, *, can_steer: bool) -> Sequence[str]:
    """Return what the border says can be done with a setting. settings: None before the run is open."""
    if settings is None:
        return ()
    if not settings.of_script:
        return ConfigPane.hints
    can_edit = key is not None and not settings.why_fixed(key, can_steer=can_steer)
    edit = ("Enter edit", "+ - change") if can_edit else ()
    reset = ("x reset",) if can_edit else ()
    return (*edit, "/ search", *reset, "v changed only")

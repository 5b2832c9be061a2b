"""The config pane: every setting, edited in place and checked while typing."""

from contextlib import suppress
from typing import Any

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.events import Resize
from textual.message import Message
from textual.suggester import SuggestFromList
from textual.widgets import DataTable, Input, Static

from tui_lab.app.panes.pane import Pane
from tui_lab.app.panes.setting_steps import step_of
from tui_lab.app.panes.setting_text import (
    about_text,
    choices,
    field_of,
    format_value,
    is_live,
    keys_of,
    parameters_text,
    parse_value,
    short_value,
    value_of,
)
from tui_lab.app.session.state import LabState
from tui_lab.app.widgets.input import Field
from tui_lab.app.widgets.table import Table
from tui_lab.core import commands as cmd
from tui_lab.core import events as ev
from tui_lab.core.config import script
from tui_lab.core.config.schema import Config
from tui_lab.core.config.script import CAPTURED, RunConfig
from tui_lab.core.user_code import trust
from tui_lab.util.errors import ConfigError
from tui_lab.util.escape import printable

COLUMNS = ("section", "setting", "value", "note")
SECTION_WIDTH = 6
SETTING_WIDTH = 19
NOTE_WIDTH = 2
LEAST_VALUE_WIDTH = 7
SCROLLBAR_WIDTH = 2
LIVE = "●"
SECTION_NAMES = {CAPTURED.removesuffix("."): "script"}
"""For those that are shown by another name."""


class ConfigPane(Pane):
    number = 1
    title = "Config"
    help_name = "config"
    main = "#settings"
    hints = ("Enter edit", "+ - change", "/ search", "x reset", "v changed only", "p formula", "Ctrl+S save")

    BINDINGS = [
        Binding("escape", "cancel", "Cancel", show=False),
        Binding("plus,equals_sign", "step(1)", "Raise", show=False),
        Binding("minus", "step(-1)", "Lower", show=False),
        Binding("slash", "search", "Search", show=False),
        Binding("x", "reset", "Reset", show=False),
        Binding("v", "only_changed", "Changed only", show=False),
        Binding("p", "formula", "Parameter formula", show=False),
    ]

    class ValueSet(Message):
        """The user entered a valid value for a setting."""

        def __init__(self, key: str, value: Any) -> None:
            super().__init__()
            self.key = key
            self.value = value

    class Stepped(Message):
        """The user raised or lowered a live setting."""

        def __init__(self, command: cmd.Scale | cmd.Shift | cmd.Cycle) -> None:
            super().__init__()
            self.command = command

    def __init__(self, id: str) -> None:
        super().__init__(id=id)
        self.can_steer = False
        """Whether live settings can be changed in the run now."""
        self.initial: RunConfig | None = None
        """The settings that the run started with."""
        self.running: RunConfig | None = None
        """The settings in effect."""
        self.edited: RunConfig | None = None
        """The settings in effect, with the edits that wait for a restart."""
        self._started: ev.Started | None = None
        self._only_changed = False
        self._search = ""
        """The lower-case text that the names in the list contain."""
        self._first_of_section: dict[str, str] = {}
        self._value_width = LEAST_VALUE_WIDTH
        self._formula = False

    def compose(self) -> ComposeResult:
        table: Table[Text] = Table(id="settings", cursor_type="row", show_header=False, cell_padding=0)
        self._add_columns(table)
        yield table
        yield Field(id="search", placeholder="part of a setting's name")
        with Vertical(id="editor"):
            yield Static(id="about")
            yield Field(id="value", select_on_focus=True)
            yield Static(id="problem")
        yield Static(id="parameters")

    def _add_columns(self, table: Table[Text]) -> None:
        self._value_width = max(
            LEAST_VALUE_WIDTH,
            self.content_size.width - SECTION_WIDTH - SETTING_WIDTH - NOTE_WIDTH - SCROLLBAR_WIDTH,
        )
        widths = (SECTION_WIDTH, SETTING_WIDTH, self._value_width, NOTE_WIDTH)
        for name, width in zip(COLUMNS, widths, strict=True):
            table.add_column(name, key=name, width=width)

    def on_resize(self, event: Resize) -> None:
        """Give the values what room there is."""
        key = self.key
        self._table.clear(columns=True)
        self._add_columns(self._table)
        self.fill(key)

    def show(self, state: LabState, now: float) -> None:
        """Take over the settings that changed in the run; edits that wait for a restart stay."""
        if state.config is None or (state.config == self.running and state.started == self._started):
            return
        previous = self.running
        self.running = state.config
        self._started = state.started
        if self.initial is None and state.ready is not None:
            self.initial = state.ready.config
        if self.edited is None or previous is None:
            self.edited = state.config
        else:
            before = script.values_of(previous)
            for key, value in script.values_of(state.config).items():
                if value != before.get(key):
                    self.edited = script.changed(self.edited, key, value)
        self.fill()

    @property
    def _table(self) -> Table[Text]:
        return self.query_one("#settings", Table)

    @property
    def key(self) -> str | None:
        """The setting under the cursor."""
        if not self._table.row_count:
            return None
        return self._table.coordinate_to_cell_key(self._table.cursor_coordinate).row_key.value

    def fill(self, cursor_key: str | None = None) -> None:
        """Redraw the rows and the parameter count; the cursor stays on its setting, or goes to `cursor_key`."""
        if self.edited is None:
            return
        table = self._table
        cursor_key = cursor_key or self.key
        keys = [key for key in keys_of(self.edited) if self._is_listed(key)]
        self._first_of_section = {}
        for key in keys:
            self._first_of_section.setdefault(key.rpartition(".")[0], key)
        if [row.key.value for row in table.ordered_rows] == keys:
            for key in keys:
                for column, cell in zip(COLUMNS, self._row(key), strict=True):
                    shown = table.get_cell(key, column)
                    if (shown, shown.style) != (cell, cell.style):  # Text's == ignores the style.
                        table.update_cell(key, column, cell)
        else:
            table.clear()
            for key in keys:
                table.add_row(*self._row(key), key=key)
            if cursor_key in keys:
                table.move_cursor(row=keys.index(cursor_key))
        self._show_about()
        self._show_parameters(self.edited)

    def _is_listed(self, key: str) -> bool:
        return (not self._only_changed or self._is_changed(key)) and self._search in key.lower()

    def _is_changed(self, key: str) -> bool:
        """Return whether the edited value differs from the value at the start of the run."""
        return _differ(self.edited, self.initial, key)

    def _waits(self, key: str) -> bool:
        """Return whether the edited value is not in effect yet."""
        return _differ(self.edited, self.running, key)

    def _is_live(self, key: str) -> bool:
        return self.edited is not None and is_live(self.edited, key)

    @property
    def _is_script(self) -> bool:
        return self.edited is not None and not isinstance(self.edited, Config)

    def _row(self, key: str) -> tuple[Text, Text, Text, Text]:
        assert self.edited is not None
        section, _, name = key.rpartition(".")
        first = self._first_of_section.get(section) == key
        waits = self._waits(key)
        note = ("…" if self._is_script else "r") if waits else LIVE if self._is_live(key) else ""
        style = "bold" if self._is_changed(key) else ""
        mark = "≠" if self._is_changed(key) else " "
        value = printable(short_value(value_of(self.edited, key)))
        return (
            Text(SECTION_NAMES.get(section, section) if first else "", style="dim", no_wrap=True),
            Text(f"{mark} {name}", style=style, no_wrap=True, overflow="ellipsis"),
            Text(value, style=style, no_wrap=True, overflow="ellipsis"),
            Text(note, style="bold reverse" if waits else "green", no_wrap=True),
        )

    def _show_about(self) -> None:
        """Describe the setting under the cursor; its value goes into the field unless the user is typing there."""
        key = self.key
        if key is None or self.edited is None or self.initial is None:
            return
        text = about_text(self.edited, key)
        if self._is_changed(key):
            text.append(f"  started as {format_value(value_of(self.initial, key))}", "italic")
        if self._waits(key) and not self._is_script:
            text.append("  needs restart: r restart, f fork", "bold")
        self.query_one("#about", Static).update(text)
        if not self.query_one("#value", Input).has_focus:
            self._show_value()

    def _show_value(self) -> None:
        """Put the value of the setting under the cursor into the field."""
        if self.key is None or self.edited is None:
            return
        field = self.query_one("#value", Input)
        with field.prevent(Input.Changed):
            field.value = format_value(value_of(self.edited, self.key))
        self._show_problem("")
        self.remove_class("-wrong")

    def _show_problem(self, problem: str) -> None:
        self.query_one("#problem", Static).update(Text(f"✗ {printable(problem)}", "bold") if problem else "")

    def _show_parameters(self, config: RunConfig | None) -> None:
        if config is None or self._started is None:
            return
        if isinstance(config, Config):
            text = parameters_text(config, self._started.n_vocab, formula=self._formula)
        else:
            text = Text.assemble(
                (f"{self._started.parameters:,}", "bold"), f" parameters  {printable(config.model.name)}"
            )
        self.query_one("#parameters", Static).update(text)

    @on(DataTable.RowHighlighted)
    def _cursor_moved(self) -> None:
        self._show_about()

    @on(DataTable.RowSelected)
    def _edit(self) -> None:
        if self.key is None or self.edited is None:
            return
        if self._is_script and not self._is_live(self.key):
            self._show_problem("read only: the script sets it, so change it there")
            return
        field = self.query_one("#value", Input)
        names = choices(field_of(self.edited, self.key))
        field.suggester = SuggestFromList(names) if names else None
        field.focus()

    @on(Input.Changed, "#value")
    def _typed(self, event: Input.Changed) -> None:
        candidate, problem = self._parse(event.value)
        self._show_problem(problem)
        self.set_class(bool(problem), "-wrong")
        if candidate is not None:
            self._show_parameters(candidate)

    @on(Input.Submitted, "#value")
    def _submitted(self, event: Input.Submitted) -> None:
        candidate, _ = self._parse(event.value)
        key = self.key
        if candidate is None or key is None:
            return
        value = value_of(candidate, key)
        if key == "model.source" and value:
            with suppress(ConfigError):  # The trainer reports that the file does not exist.
                trust.allow(value)
        self.set_value(key, value)
        self._table.focus()

    def set_value(self, key: str, value: Any) -> None:
        """Set a setting to a valid value and post `ValueSet`. Raises ConfigError."""
        if self.edited is None:
            return
        self.edited = script.changed(self.edited, key, value)
        self.post_message(self.ValueSet(key, value))
        self.fill()

    def _parse(self, text: str) -> tuple[RunConfig | None, str]:
        """Return the settings with the typed value, or None and what is wrong with it."""
        if self.key is None or self.edited is None:
            return None, ""
        try:
            return script.changed(self.edited, self.key, parse_value(self.edited, self.key, text)), ""
        except ConfigError as error:
            return None, str(error.problems[0])

    def action_search(self) -> None:
        """Type a part of a name; only settings that contain it are listed."""
        field = self.query_one("#search", Input)
        field.display = True
        field.focus()

    @on(Input.Changed, "#search")
    def _searched(self, event: Input.Changed) -> None:
        self._search = event.value.strip().lower()
        self.fill()

    @on(Input.Submitted, "#search")
    def _found(self) -> None:
        self._table.focus()

    def action_cancel(self) -> None:
        """Leave the field, and list all settings again."""
        field = self.query_one("#search", Input)
        if field.display:
            field.display = False
            field.value = ""
        self._show_value()
        self._table.focus()

    def action_reset(self) -> None:
        key = self.key
        if key is not None and self.initial is not None:
            if self._is_script and not self._is_live(key):
                return
            try:
                self.set_value(key, value_of(self.initial, key))
            except ConfigError as error:
                self._show_problem(str(error.problems[0]))

    def action_step(self, direction: int) -> None:
        """Raise or lower the setting under the cursor: at once if it is live, or else in the edited settings."""
        key = self.key
        if key is None or self.edited is None:
            return
        command = step_of(self.edited, key, direction)
        if command is None:
            self._show_problem("has no order: press Enter and type a value")
        elif self.can_steer and self._is_live(key):
            self.post_message(self.Stepped(command))
        elif self._is_script:
            self._show_problem("read only: the script sets it, so change it there")
        else:
            try:
                self.set_value(key, cmd.changed_value(command, self.edited))
            except ConfigError as error:
                self._show_problem(str(error.problems[0]))

    def action_only_changed(self) -> None:
        self._only_changed = not self._only_changed
        self.fill()

    def action_formula(self) -> None:
        self._formula = not self._formula
        self._show_parameters(self.edited)


def _differ(one: RunConfig | None, other: RunConfig | None, key: str) -> bool:
    """Return whether two configs have different values of a setting."""
    return one is not None and other is not None and one != other and value_of(one, key) != value_of(other, key)

"""The config pane: every setting, edited in place and checked while typing."""

from contextlib import suppress
from typing import Any

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.message import Message
from textual.suggester import SuggestFromList
from textual.widgets import DataTable, Input, Static

from tui_lab.app.panes.pane import Pane
from tui_lab.app.panes.setting_text import FIELDS, allowed, choices, format_value, parameters_text, parse_value
from tui_lab.app.session.state import LabState
from tui_lab.app.widgets.input import Field
from tui_lab.app.widgets.table import Table
from tui_lab.core.config import settings
from tui_lab.core.config.schema import Config
from tui_lab.core.user_code import trust
from tui_lab.util.errors import ConfigError
from tui_lab.util.escape import printable

COLUMNS = ("setting", "value", "note")


class ConfigPane(Pane):
    number = 1
    title = "Config"
    help_name = "config"
    main = "#settings"

    BINDINGS = [
        Binding("escape", "cancel", "Cancel", show=False),
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

    def __init__(self, id: str) -> None:
        super().__init__(id=id)
        self.initial: Config | None = None
        """The settings that the run started with."""
        self.running: Config | None = None
        """The settings in effect."""
        self.edited: Config | None = None
        """The settings in effect, with the edits that wait for a restart."""
        self._n_vocab: int | None = None
        self._only_changed = False
        self._formula = False

    def compose(self) -> ComposeResult:
        table: Table[Text] = Table(id="settings", cursor_type="row", show_header=False, zebra_stripes=True)
        for name in COLUMNS:
            table.add_column(name, key=name)
        yield table
        with Vertical(id="editor"):
            yield Static(id="about")
            yield Field(id="value", select_on_focus=True)
            yield Static(id="problem")
        yield Static(id="parameters")

    def show(self, state: LabState, now: float) -> None:
        """Take over the settings that changed in the run; edits that wait for a restart stay."""
        n_vocab = state.started.n_vocab if state.started else None
        if state.config is None or (state.config == self.running and n_vocab == self._n_vocab):
            return
        previous = self.running
        self.running = state.config
        self._n_vocab = n_vocab
        if self.initial is None and state.ready is not None:
            self.initial = state.ready.config
        if self.edited is None or previous is None:
            self.edited = state.config
        else:
            for key in FIELDS:
                value = settings.get(state.config, key)
                if value != settings.get(previous, key):
                    self.edited = settings.changed(self.edited, key, value)
        self.fill()

    @property
    def _table(self) -> DataTable[Text]:
        return self.query_one("#settings", DataTable)

    @property
    def key(self) -> str | None:
        """The setting under the cursor."""
        if not self._table.row_count:
            return None
        return self._table.coordinate_to_cell_key(self._table.cursor_coordinate).row_key.value

    def fill(self) -> None:
        """Redraw the rows and the parameter count; the cursor stays on its setting."""
        table = self._table
        cursor_key = self.key
        keys = [key for key in FIELDS if not self._only_changed or self._is_changed(key)]
        if [row.key.value for row in table.ordered_rows] == keys:
            for key in keys:
                for column, cell in zip(COLUMNS, self._row(key), strict=True):
                    shown = table.get_cell(key, column)
                    if (shown, shown.style) != (cell, cell.style):  # Text's == ignores the style.
                        table.update_cell(key, column, cell, update_width=True)
        else:
            table.clear()
            for key in keys:
                table.add_row(*self._row(key), key=key)
            if cursor_key in keys:
                table.move_cursor(row=keys.index(cursor_key))
        self._show_about()
        self._show_parameters(self.edited)

    def _is_changed(self, key: str) -> bool:
        """Return whether the edited value differs from the value at the start of the run."""
        return bool(self.edited and self.initial and settings.get(self.edited, key) != settings.get(self.initial, key))

    def _waits(self, key: str) -> bool:
        """Return whether the edited value is not in effect yet."""
        return bool(self.edited and self.running and settings.get(self.edited, key) != settings.get(self.running, key))

    def _row(self, key: str) -> tuple[Text, Text, Text]:
        assert self.edited is not None
        waits = self._waits(key)
        note = "restart" if waits else "live" if settings.is_live(key) else ""
        style = "bold" if self._is_changed(key) else ""
        mark = "≠" if self._is_changed(key) else " "
        value = printable(format_value(settings.get(self.edited, key)))
        return (
            Text(f"{mark} {key}", style=style, no_wrap=True),
            Text(value, style=style, no_wrap=True, overflow="ellipsis"),
            Text(note, style="bold reverse" if waits else "dim", no_wrap=True),
        )

    def _show_about(self) -> None:
        """Describe the setting under the cursor; its value goes into the field unless the user is typing there."""
        key = self.key
        if key is None or self.edited is None or self.initial is None:
            return
        field = FIELDS[key]
        text = Text.assemble((f"{field.title}. ", "bold"), str(field.description), (f"  {allowed(key)}", "dim"))
        if self._is_changed(key):
            text.append(f"  started as {format_value(settings.get(self.initial, key))}", "italic")
        if self._waits(key):
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
            field.value = format_value(settings.get(self.edited, self.key))
        self._show_problem("")
        self.remove_class("-wrong")

    def _show_problem(self, problem: str) -> None:
        self.query_one("#problem", Static).update(Text(f"✗ {printable(problem)}", "bold") if problem else "")

    def _show_parameters(self, config: Config | None) -> None:
        if config is not None and self._n_vocab is not None:
            text = parameters_text(config, self._n_vocab, formula=self._formula)
            self.query_one("#parameters", Static).update(text)

    @on(DataTable.RowHighlighted)
    def _cursor_moved(self) -> None:
        self._show_about()

    @on(DataTable.RowSelected)
    def _edit(self) -> None:
        if self.key is None:
            return
        field = self.query_one("#value", Input)
        names = choices(self.key)
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
        value = settings.get(candidate, key)
        if key == "model.source" and value:
            with suppress(ConfigError):  # The trainer reports that the file does not exist.
                trust.allow(value)
        self.set_value(key, value)
        self._table.focus()

    def set_value(self, key: str, value: Any) -> None:
        """Set a setting to a valid value and post `ValueSet`. Raises ConfigError."""
        if self.edited is None:
            return
        self.edited = settings.changed(self.edited, key, value)
        self.post_message(self.ValueSet(key, value))
        self.fill()

    def _parse(self, text: str) -> tuple[Config | None, str]:
        """Return the settings with the typed value, or None and what is wrong with it."""
        if self.key is None or self.edited is None:
            return None, ""
        try:
            return settings.changed(self.edited, self.key, parse_value(self.key, text)), ""
        except ConfigError as error:
            return None, str(error.problems[0])

    def action_cancel(self) -> None:
        self._show_value()
        self._table.focus()

    def action_reset(self) -> None:
        key = self.key
        if key is not None and self.initial is not None:
            try:
                self.set_value(key, settings.get(self.initial, key))
            except ConfigError as error:
                self._show_problem(str(error.problems[0]))

    def action_only_changed(self) -> None:
        self._only_changed = not self._only_changed
        self.fill()

    def action_formula(self) -> None:
        self._formula = not self._formula
        self._show_parameters(self.edited)

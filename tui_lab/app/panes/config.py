"""The config pane: every setting, edited from the keyboard and checked as one types."""

from contextlib import suppress
from typing import Any, get_args

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.message import Message
from textual.suggester import SuggestFromList
from textual.widgets import DataTable, Input, Static

from tui_lab.app.panes.pane import Pane
from tui_lab.app.session.state import LabState
from tui_lab.app.widgets.input import Field
from tui_lab.app.widgets.table import Table
from tui_lab.core.config import settings
from tui_lab.core.config.schema import Config
from tui_lab.core.kernels.parameter_count import count_parameters, parameter_table
from tui_lab.core.user_code import trust
from tui_lab.util.errors import ConfigError
from tui_lab.util.escape import printable

FIELDS = settings.fields()


def written(value: Any) -> str:
    """A value as one would type it."""
    if isinstance(value, tuple):
        return ", ".join(v if isinstance(v, str) else f"{v:g}" for v in value)
    return str(value)


def read(key: str, text: str) -> Any:
    """What was typed for `key`; pydantic says the rest."""
    if key == "optim.betas":
        return settings.parse_value(f"[{text.strip().strip('[]')}]")
    if key == "faults":
        return [name for name in text.replace(",", " ").split() if name]
    return settings.parse_value(text) if FIELDS[key].annotation is not str else text.strip()


def allowed(key: str) -> str:
    """Choices or bounds of a setting in words, with its unit."""
    field = FIELDS[key]
    if key == "faults":
        return "names, separated by commas; tui-lab faults lists them"
    if (choices := get_args(field.annotation)) and choices != (float, float):
        return " | ".join(map(str, choices))
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    found = [f"{sign} {getattr(m, name):g}" for m in field.metadata for name, sign in signs.items() if hasattr(m, name)]
    extra = field.json_schema_extra
    unit = extra["unit"] if isinstance(extra, dict) else ""
    return ", ".join(found) + (f" {unit}" if unit else "")


class ConfigPane(Pane):
    number, title, help_name, main = 1, "Config", "config", "#settings"

    BINDINGS = [
        Binding("escape", "leave", "Cancel", show=False),
        Binding("x", "reset", "Reset", show=False),
        Binding("v", "only_changed", "Changed only", show=False),
        Binding("p", "breakdown", "Parameters", show=False),
    ]

    class Chosen(Message):
        """A valid new value for a setting."""

        def __init__(self, key: str, value: Any) -> None:
            super().__init__()
            self.key, self.value = key, value

    def __init__(self, id: str) -> None:
        super().__init__(id=id)
        self.preset: Config | None = None
        self.running: Config | None = None
        self.edited: Config | None = None
        self._n_vocab: int | None = None
        self._only_changed, self._breakdown = False, False

    def compose(self) -> ComposeResult:
        table: Table[Text] = Table(id="settings", cursor_type="row", show_header=False, zebra_stripes=True)
        table.add_column("setting", key="setting")
        table.add_column("value", key="value")
        table.add_column("note", key="note")
        yield table
        with Vertical(id="editor"):
            yield Static(id="about")
            yield Field(id="value", select_on_focus=True)
            yield Static(id="problem")
        yield Static(id="parameters")

    def show(self, state: LabState, now: float) -> None:
        """Take over what changed while it ran; what a person has edited and not applied stays."""
        n_vocab = state.started.n_vocab if state.started else None
        if state.config is None or (state.config == self.running and n_vocab == self._n_vocab):
            return
        before, self.running, self._n_vocab = self.running, state.config, n_vocab
        if self.preset is None and state.ready is not None:
            self.preset = state.ready.config
        if self.edited is None or before is None:
            self.edited = state.config
        else:
            for key in FIELDS:
                value = settings.get(state.config, key)
                if value != settings.get(before, key):
                    self.edited = settings.changed(self.edited, key, value)
        self.fill()

    @property
    def key(self) -> str | None:
        """The setting under the cursor."""
        table = self.query_one("#settings", DataTable)
        if not table.row_count:
            return None
        return table.coordinate_to_cell_key(table.cursor_coordinate).row_key.value

    def fill(self) -> None:
        """Rows and parameter count anew, the cursor where it was."""
        table = self.query_one("#settings", DataTable)
        at = self.key
        shown = [key for key in FIELDS if not self._only_changed or self._differs(key)]
        if [row.key.value for row in table.ordered_rows] == shown:
            for key in shown:
                for column, cell in zip(("setting", "value", "note"), self._row(key), strict=True):
                    table.update_cell(key, column, cell, update_width=True)
        else:
            table.clear()
            for key in shown:
                table.add_row(*self._row(key), key=key)
            if at in shown:
                table.move_cursor(row=shown.index(at))
        self._about()
        self._count(self.edited)

    def _differs(self, key: str) -> bool:
        return bool(self.edited and self.preset and settings.get(self.edited, key) != settings.get(self.preset, key))

    def _row(self, key: str) -> tuple[Text, Text, Text]:
        edited, running = self.edited, self.running
        assert edited is not None and running is not None
        value = settings.get(edited, key)
        waits = value != settings.get(running, key)
        note = "restart" if waits else ("live" if settings.is_live(key) else "")
        style = "bold" if self._differs(key) else ""
        mark = "≠" if self._differs(key) else " "
        return (
            Text(f"{mark} {key}", style=style, no_wrap=True),
            Text(printable(written(value)), style=style, no_wrap=True, overflow="ellipsis"),
            Text(note, style="bold reverse" if waits else "dim", no_wrap=True),
        )

    def _about(self) -> None:
        key = self.key
        if key is None or self.edited is None or self.preset is None:
            return
        field = FIELDS[key]
        text = Text.assemble((f"{field.title}. ", "bold"), str(field.description), (f"  {allowed(key)}", "dim"))
        if self._differs(key):
            text.append(f"  started as {written(settings.get(self.preset, key))}", "italic")
        if self.running is not None and settings.get(self.edited, key) != settings.get(self.running, key):
            text.append("  needs restart: r restart, f fork", "bold")
        self.query_one("#about", Static).update(text)
        box = self.query_one("#value", Input)
        if not box.has_focus:
            with box.prevent(Input.Changed):
                box.value = written(settings.get(self.edited, key))
            self.query_one("#problem", Static).update("")

    def _count(self, config: Config | None) -> None:
        if config is None or self._n_vocab is None:
            return
        if config.model.source:
            self.query_one("#parameters", Static).update(Text(f"parameters: see {config.model.source}"))
            return
        total = count_parameters(config.model, self._n_vocab)
        text = Text.assemble((f"{total:,}", "bold"), f" parameters with V = {self._n_vocab:,}")
        if self._breakdown:
            for row in parameter_table(config.model, self._n_vocab):
                text.append(f"\n{row.symbol:<10} {row.count:>12,}  {row.shape}")
        else:
            text.append("  p: formula", "dim")
        self.query_one("#parameters", Static).update(text)

    @on(DataTable.RowHighlighted)
    def _moved(self) -> None:
        self._about()

    @on(DataTable.RowSelected)
    def _edit(self) -> None:
        if (key := self.key) is None:
            return
        box = self.query_one("#value", Input)
        choices = [c for c in get_args(FIELDS[key].annotation) if isinstance(c, str)]
        box.suggester = SuggestFromList(choices) if choices else None
        box.focus()

    @on(Input.Changed, "#value")
    def _typed(self, event: Input.Changed) -> None:
        candidate, problem = self._candidate(event.value)
        self.query_one("#problem", Static).update(Text(f"✗ {printable(problem)}", style="bold") if problem else "")
        self.set_class(bool(problem), "-wrong")
        if candidate is not None:
            self._count(candidate)

    @on(Input.Submitted, "#value")
    def _submitted(self, event: Input.Submitted) -> None:
        candidate, problem = self._candidate(event.value)
        key = self.key
        if problem or candidate is None or key is None:
            return
        if key == "model.source" and event.value.strip():
            with suppress(ConfigError):  # The file is not there: the worker says so.
                trust.allow(settings.get(candidate, key))
        self.choose(key, settings.get(candidate, key))
        self.query_one("#settings", DataTable).focus()

    def choose(self, key: str, value: Any) -> None:
        """Take a valid value over, and tell the screen of it."""
        if self.edited is None:
            return
        self.edited = settings.changed(self.edited, key, value)
        self.post_message(self.Chosen(key, value))
        self.fill()

    def _candidate(self, text: str) -> tuple[Config | None, str]:
        """The config with what is typed, or why not."""
        key = self.key
        if key is None or self.edited is None:
            return None, ""
        try:
            return settings.changed(self.edited, key, read(key, text)), ""
        except ConfigError as error:
            return None, str(error.problems[0])

    def action_leave(self) -> None:
        self.query_one("#settings", DataTable).focus()
        self.remove_class("-wrong")
        self._about()

    def action_reset(self) -> None:
        key = self.key
        if key is not None and self.preset is not None:
            try:
                self.choose(key, settings.get(self.preset, key))
            except ConfigError as error:
                self.query_one("#problem", Static).update(Text(f"✗ {error.problems[0]}", style="bold"))

    def action_only_changed(self) -> None:
        self._only_changed = not self._only_changed
        self.fill()

    def action_breakdown(self) -> None:
        self._breakdown = not self._breakdown
        self._count(self.edited)

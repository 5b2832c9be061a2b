"""The list of settings: each with its value, whether it can change while the run trains, and whether it waits."""

from collections.abc import Callable

from rich.text import Text
from textual.events import Resize

from tui_lab.app.panes.edited_settings import EditedSettings
from tui_lab.app.panes.setting_text import keys_of, short_value, value_of
from tui_lab.app.widgets.table import Table
from tui_lab.core.config.script import CAPTURED, ImportedConfig
from tui_lab.util.escape import printable

COLUMNS = ("section", "setting", "value", "note")
SECTION_WIDTH = 7
SETTING_WIDTH = 19
NOTE_WIDTH = 2
LEAST_VALUE_WIDTH = 7
SCROLLBAR_WIDTH = 2
LIVE = "●"
SECTION_NAMES = {CAPTURED.removesuffix("."): "script", "data.options": "options"}
"""For those that are shown by another name."""


class SettingsList(Table[Text]):
    """Call `show_settings`. `only_changed` and `search`, lower-case text in the names, limit what is listed."""

    def __init__(self, id: str, edit: Callable[[], None]) -> None:
        super().__init__(id=id, cursor_type="row", show_header=False, cell_padding=0)
        self._edit = edit
        self.only_changed = False
        self.search = ""
        self._settings: EditedSettings | None = None
        self._add_columns(LEAST_VALUE_WIDTH)

    def _add_columns(self, value_width: int) -> None:
        self._value_width = value_width
        for name, width in zip(COLUMNS, (SECTION_WIDTH, SETTING_WIDTH, value_width, NOTE_WIDTH), strict=True):
            self.add_column(name, key=name, width=width)

    def action_select_cursor(self) -> None:
        """Edit at once: DataTable's message comes too late for the next keys of a burst."""
        self._edit()

    def on_resize(self, event: Resize) -> None:
        """Give the values what room there is."""
        key = self.key
        self.clear(columns=True)
        room = event.size.width - SECTION_WIDTH - SETTING_WIDTH - NOTE_WIDTH - SCROLLBAR_WIDTH
        self._add_columns(max(LEAST_VALUE_WIDTH, room))
        if self._settings is not None:
            self.show_settings(self._settings, key)

    @property
    def key(self) -> str | None:
        """The setting under the cursor."""
        if not self.row_count:
            return None
        return self.coordinate_to_cell_key(self.cursor_coordinate).row_key.value

    def show_settings(self, settings: EditedSettings, cursor_key: str | None = None) -> None:
        """Draw the rows that differ; the cursor stays on its setting, or goes to `cursor_key`."""
        self._settings = settings
        cursor_key = cursor_key or self.key
        keys = [key for key in keys_of(settings.edited) if self._is_listed(settings, key)]
        rows = dict(zip(keys, self._rows(settings, keys), strict=True))
        if [row.key.value for row in self.ordered_rows] == keys:
            for key, row in rows.items():
                for column, cell in zip(COLUMNS, row, strict=True):
                    shown = self.get_cell(key, column)
                    if (shown, shown.style) != (cell, cell.style):  # Text's == ignores the style.
                        self.update_cell(key, column, cell)
            return
        self.clear()
        for key, row in rows.items():
            self.add_row(*row, key=key)
        if cursor_key in keys:
            self.move_cursor(row=keys.index(cursor_key))

    def reveal(self, key: str) -> None:
        """List all settings, and move the cursor to one."""
        self.only_changed = False
        self.search = ""
        if self._settings is not None:
            self.show_settings(self._settings)
            self.move_cursor(row=self.get_row_index(key))

    def _is_listed(self, settings: EditedSettings, key: str) -> bool:
        return (not self.only_changed or settings.is_changed(key)) and self.search in key.lower()

    def _rows(self, settings: EditedSettings, keys: list[str]) -> list[tuple[Text, ...]]:
        rows = []
        previous_section = None
        for key in keys:
            section, _, name = key.rpartition(".")
            title = self._title(settings, section) if section != previous_section else ""
            previous_section = section
            rows.append(_row(settings, key, title, name, self._value_width))
        return rows

    def _title(self, settings: EditedSettings, section: str) -> str:
        if section in SECTION_NAMES and isinstance(settings.running, ImportedConfig):
            return "log"
        return SECTION_NAMES.get(section, section)


def _row(settings: EditedSettings, key: str, section: str, name: str, value_width: int) -> tuple[Text, ...]:
    waits = settings.waits(key)
    note = ("…" if settings.of_script else "r") if waits else LIVE if settings.is_live(key) else ""
    style = "bold" if settings.is_changed(key) else ""
    mark = "≠" if settings.is_changed(key) else " "
    value = value_of(settings.edited, key)
    value = printable(settings.shown_value(key) if key == "faults" else short_value(value))
    if key in settings.requested:
        waits = False
        note = "…"
        style = "bold italic"
        value = requested_text(settings, key, value_width)
    return (
        Text(section, style="dim", no_wrap=True),
        Text(f"{mark} {printable(name)}", style=style, no_wrap=True, overflow="ellipsis"),
        Text(value, style=style, no_wrap=True, overflow="ellipsis"),
        Text(note, style="bold reverse" if waits else "green", no_wrap=True),
    )


def requested_text(settings: EditedSettings, key: str, width: int) -> str:
    """Return the value in effect and the one that was requested, or only that one if both do not fit."""
    applied, requested = (
        printable(short_value(value)) for value in (value_of(settings.running, key), settings.requested[key])
    )
    both = f"{applied} → {requested}"
    return both if len(both) <= width else f"→ {requested}"

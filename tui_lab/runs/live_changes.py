"""The settings that were changed while a run trained, for a comparison of runs."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tui_lab.core.config import script
from tui_lab.core.events import Changed
from tui_lab.core.runs.catalog import RunRow, config_differences
from tui_lab.core.runs.folder import Run
from tui_lab.runs.figures import setting_text
from tui_lab.util.errors import RunError
from tui_lab.util.plural import counted

SHOWN_CHANGES = 3
"""Of one setting; of more, the last one and their number are shown."""


def changes_of(run: Run) -> tuple[Changed, ...]:
    """Return the live changes of a run; none if its events cannot be read."""
    try:
        return tuple(run.log.changes())
    except (RunError, OSError):
        return ()


def settings_texts(values: Mapping[str, Any], changes: Iterable[Changed]) -> dict[str, str]:
    """Return a text for each of the settings, and for each that was changed live, with what it was changed to."""
    merged = merge_changes(changes)
    keys = dict.fromkeys([*values, *(change.key for change in merged)])
    return {key: course_text(values.get(key), [change for change in merged if change.key == key]) for key in keys}


def merge_changes(changes: Iterable[Changed], *, drop_undone: bool = True) -> list[Changed]:
    """Merge the changes of one key at one step.

    drop_undone: without those that end at the value they began with.
    """
    merged: dict[tuple[int, str], Changed] = {}
    for change in changes:
        place = (change.step, change.key)
        old = merged[place].old if place in merged else change.old
        merged[place] = Changed(step=change.step, key=change.key, old=old, new=change.new)
    return [change for change in merged.values() if change.old != change.new or not drop_undone]


@dataclass(frozen=True)
class SettingsDiff:
    """The settings of runs side by side.

    different: for each setting that differs or was changed live in any run, a text per run. n_different: settings that
    differ at the start; n_changes: live changes of all runs.
    """

    different: Mapping[str, Sequence[str]]
    n_different: int
    n_changes: int

    @property
    def changes_text(self) -> str:
        """How many live changes there are; empty without any."""
        if not self.n_changes:
            return ""
        return f"{counted(self.n_changes, 'live change')}"


def settings_diff(rows: Sequence[RunRow], changes: Sequence[Sequence[Changed]]) -> SettingsDiff:
    """Compare the settings of the rows, with the live changes of each."""
    different = config_differences(rows)
    merged = [merge_changes(of_run) for of_run in changes]
    keys = dict.fromkeys([*different, *(change.key for of_run in merged for change in of_run)])
    values = [{} if row.config is None else script.known_values(row.config) for row in rows]
    texts = {
        key: [
            course_text(at_start.get(key), [change for change in of_run if change.key == key])
            for at_start, of_run in zip(values, merged, strict=True)
        ]
        for key in keys
    }
    return SettingsDiff(texts, len(different), sum(map(len, merged)))


def course_text(at_start: Any, changes: Sequence[Changed]) -> str:
    """Return the value of a setting, and each that it was changed to: "0.002 → 0.004 at 97".

    at_start: None if the run does not have the setting.
    """
    if not changes:
        return value_text(at_start)
    # Not `at_start`: the config of a fork has the values of the moment it was forked at.
    parts = [value_text(changes[0].old)]
    if len(changes) > SHOWN_CHANGES:
        parts.append("…")
    shown = changes if len(changes) <= SHOWN_CHANGES else changes[-1:]
    parts += [f"{value_text(change.new)} at {change.step:,}" for change in shown]
    number = f" ({len(changes):,} changes)" if len(changes) > SHOWN_CHANGES else ""
    return " → ".join(parts) + number


def value_text(value: Any) -> str:
    """Return a setting as a comparison shows it: a dash for none, commas in a large whole number."""
    if value is None:
        return "–"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return setting_text(value)

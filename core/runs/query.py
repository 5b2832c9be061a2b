"""Filter and sort runs by conditions such as "optim.lr<0.01" and by keys."""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tui_lab.core.config import script, settings
from tui_lab.core.config.settings import parse_value
from tui_lab.core.runs.catalog import RunRow
from tui_lab.core.runs.summary import COMPARE
from tui_lab.util.errors import ConfigError, nearest

FIGURES: Mapping[str, Callable[[RunRow], Any]] = {
    "name": lambda row: row.name,
    "created": lambda row: row.created,
    "state": lambda row: row.state,
    "kind": lambda row: row.kind,
    "steps": lambda row: row.steps,
    "train_loss": lambda row: row.train_loss,
    "val_loss": lambda row: row.val_loss,
    "best_val_loss": lambda row: row.best_val_loss,
    "best_step": lambda row: row.best_step,
    "exact_match": lambda row: row.metric if row.metric_name == "exact_match" else None,
    "perplexity": lambda row: row.metric if row.metric_name == "perplexity" else None,
    "parameters": lambda row: row.n_parameters,
    "seconds": lambda row: row.seconds,
    "tag": lambda row: row.tags,
    "note": lambda row: row.note,
}
"""The values of a row that are not settings, by the name to write."""


@dataclass(frozen=True)
class Condition:
    """A key, a comparison and a value. With the comparison "" the value is a tag or a part of the name."""

    key: str
    compare: str
    value: Any

    def holds(self, row: RunRow) -> bool:
        """Return whether a row meets the condition. A value that is not known only meets !=."""
        if not self.compare:
            return self.value in row.name or self.value in row.tags
        value = value_of(row, self.key)
        if self.compare in COMPARE:
            return _is_number(value) and COMPARE[self.compare](value, self.value)
        if self.compare == "~":
            return str(self.value).casefold() in _text_of(value).casefold()
        equal = self.value in value if self.key == "tag" else value == self.value
        return equal if self.compare == "=" else not equal


def value_of(row: RunRow, key: str) -> Any:
    """Return the value of a key in a row, of a setting the one at the end of the run; None where it is not known.

    Raises ConfigError for an unknown key.
    """
    if key in FIGURES:
        return FIGURES[key](row)
    check_key(key)
    return row.setting(key)


def check_key(key: str) -> None:
    """Raises ConfigError with the nearest key for one that does not exist; a captured setting may have any name."""
    keys = tuple(dict.fromkeys((*FIGURES, *settings.fields(), *script.keys())))
    if key not in keys and not settings.exists(key) and not key.startswith(script.CAPTURED):
        full_key = next((full for full in keys if full.partition(".")[2] == key), "")
        raise ConfigError.of(
            "unknown_key",
            "unknown key",
            key=key,
            allowed=f"{', '.join(FIGURES)}, every setting, and settings.NAME for those of a script",
            suggestion=full_key or nearest(key, keys) or (f"{script.CAPTURED}{key}" if "." in key else ""),
        )


def check_captured(rows: Iterable[RunRow], keys: Iterable[str]) -> None:
    """Raises ConfigError with the nearest key where one of `keys` is a captured setting that none of the rows has."""
    configs = [row.config for row in rows if row.config is not None]
    captured = {key for config in configs for key in script.known_values(config) if key.startswith(script.CAPTURED)}
    for key in keys:
        if key.startswith(script.CAPTURED) and key not in captured:
            suggestion = nearest(key, sorted(captured))
            raise ConfigError.of("unknown_key", "no run has this setting", key=key, suggestion=suggestion)


def parse_condition(text: str) -> Condition:
    """Parse KEY<VALUE (also <=, >, >=, =, !=, ~ for "contains"), a tag, or a part of a name. Raises ConfigError."""
    match = re.fullmatch(r"\s*([\w.-]+?)\s*(<=|>=|!=|==|<|>|=|~)\s*(.*?)\s*", text)
    if match is None:
        word = text.strip()
        if not word or re.search(r"[<>=~!]", word):
            raise ConfigError.of(
                "invalid",
                "must be KEY<VALUE (or <=, >, >=, =, !=, ~), a tag, or a part of a name",
                key="--where",
                value=text,
            )
        return Condition("", "", word)
    key = match[1]
    operand = match[3]
    compare = match[2].replace("==", "=")
    check_key(key)
    if compare == "~" or key in ("tag", "name", "note", "state", "kind"):
        return Condition(key, compare, operand)
    value = parse_value(operand)
    if compare in COMPARE and not _is_number(value):
        raise ConfigError.of("wrong_type", f"the value after {compare} must be a number", key="--where", value=text)
    return Condition(key, compare, tuple(value) if isinstance(value, list) else value)


def select(rows: Iterable[RunRow], conditions: Sequence[Condition]) -> list[RunRow]:
    """Return the rows that meet every condition, in their order."""
    return [row for row in rows if all(condition.holds(row) for condition in conditions)]


def ordered(rows: Iterable[RunRow], key: str) -> list[RunRow]:
    """Return the rows sorted by a key, the smallest value first, or the largest for "-KEY"; unknown values come last.

    Raises ConfigError for an unknown key.
    """
    name = key.removeprefix("-")
    check_key(name)
    rows = list(rows)
    with_value = [row for row in rows if _is_known(value_of(row, name))]
    without_value = [row for row in rows if not _is_known(value_of(row, name))]
    return sorted(with_value, key=lambda row: _rank(value_of(row, name)), reverse=key.startswith("-")) + without_value


def _rank(value: Any) -> tuple[int, Any]:
    """Return what to sort a value by.

    A setting may be a number in one script and text in another: numbers come first.
    """
    kinds = (bool | int | float, tuple)
    kind = next((number for number, kind in enumerate(kinds) if isinstance(value, kind)), len(kinds))
    return kind, str(value) if kind == len(kinds) else value


def _is_known(value: Any) -> bool:
    return value is not None and not (isinstance(value, float) and math.isnan(value))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _text_of(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else "" if value is None else str(value)

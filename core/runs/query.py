"""Which runs, and in which order: conditions such as "optim.lr<0.01", and keys to sort by."""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tui_lab.core.config import settings
from tui_lab.core.config.settings import did_you_mean, parse_value
from tui_lab.core.runs.catalog import RunRow
from tui_lab.core.runs.summary import COMPARE
from tui_lab.util.errors import ConfigError

FIGURES: Mapping[str, Callable[[RunRow], Any]] = {
    "name": lambda row: row.name,
    "created": lambda row: row.created,
    "state": lambda row: row.state,
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
"""What a row tells beside its settings, by the name to write."""


@dataclass(frozen=True)
class Condition:
    """KEY, a comparison, and a value. With the comparison "" it is one word: a part of the name, or a tag."""

    key: str
    compare: str
    value: Any

    def holds(self, row: RunRow) -> bool:
        """Whether a row meets it; what a row does not know meets nothing but !=."""
        if not self.compare:
            return self.value in row.name or self.value in row.tags
        found = value_of(row, self.key)
        if self.compare in COMPARE:
            return _is_number(found) and COMPARE[self.compare](found, self.value)
        if self.compare == "~":
            return str(self.value).casefold() in _words(found).casefold()
        equal = self.value in found if self.key == "tag" else found == self.value
        return equal if self.compare == "=" else not equal


def value_of(row: RunRow, key: str) -> Any:
    """A figure or a setting of a row, None where it is not known. Raises ConfigError for an unknown key."""
    if key in FIGURES:
        return FIGURES[key](row)
    check_key(key)
    return None if row.config is None else settings.get(row.config, key)


def check_key(key: str) -> None:
    """Raises ConfigError, with the nearest name, for what is neither a figure nor a setting."""
    known = (*FIGURES, *settings.fields())
    if key not in known:
        section = next((whole for whole in known if whole.partition(".")[2] == key), None)
        hint = f"; did you mean {section}?" if section else did_you_mean(key, known)
        raise ConfigError([f"{key}: unknown key{hint} (allowed are {', '.join(FIGURES)}, and every setting)"])


def parse_condition(text: str) -> Condition:
    """KEY<VALUE, with <=, >, >=, =, != or ~ (contains) too; or a word. Raises ConfigError."""
    found = re.fullmatch(r"\s*([\w.]+)\s*(<=|>=|!=|==|<|>|=|~)\s*(.*?)\s*", text)
    if found is None:
        word = text.strip()
        if not word or re.search(r"[<>=~!]", word):
            raise ConfigError(
                [f"--where {text!r}: write KEY<VALUE (or <=, >, >=, =, !=, ~), or a word of a name or tag"]
            )
        return Condition("", "", word)
    key, compare, written = found[1], found[2].replace("==", "="), found[3]
    check_key(key)
    if compare == "~" or key in ("tag", "name", "note", "state"):
        return Condition(key, compare, written)
    value = parse_value(written)
    if compare in COMPARE and not _is_number(value):
        raise ConfigError([f"--where {text!r}: after {compare} stands a number, not {written!r}"])
    return Condition(key, compare, tuple(value) if isinstance(value, list) else value)


def select(rows: Iterable[RunRow], conditions: Sequence[Condition]) -> list[RunRow]:
    """The rows that meet every condition, in their order."""
    return [row for row in rows if all(condition.holds(row) for condition in conditions)]


def ordered(rows: Iterable[RunRow], key: str) -> list[RunRow]:
    """Sorted by a figure or setting, the smallest first, or the largest for "-KEY"; what is not known comes last.

    Raises ConfigError for an unknown key.
    """
    name = key.removeprefix("-")
    check_key(name)
    rows = list(rows)
    known = [row for row in rows if _is_known(value_of(row, name))]
    left = [row for row in rows if not _is_known(value_of(row, name))]
    return sorted(known, key=lambda row: value_of(row, name), reverse=key.startswith("-")) + left


def _is_known(value: Any) -> bool:
    return value is not None and not (isinstance(value, float) and math.isnan(value))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _words(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else "" if value is None else str(value)

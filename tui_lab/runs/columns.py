"""The columns of a comparison: a run, or all runs of a sweep over seeds as their mean and standard deviation."""

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tui_lab.core.runs.catalog import RunRow
from tui_lab.runs.figures import FIGURES, figure_text, row_json


@dataclass(frozen=True)
class Column:
    """Runs that are shown as one. name: of the run or the sweep. rows: at least one."""

    name: str
    rows: tuple[RunRow, ...]

    @property
    def title(self) -> str:
        """The name, with the number of runs if there are several."""
        return self.name if len(self.rows) == 1 else f"{self.name} ({len(self.rows)} seeds)"


def figures_of(columns: Sequence[Column]) -> dict[str, list[str]]:
    """Return a text per column for each figure that any run has."""
    values = [[row_json(row) for row in column.rows] for column in columns]
    figures = {"state": [_counted([row.state for row in column.rows]) for column in columns]}
    for key, title in FIGURES:
        texts = [_figure(key, [one[key] for one in of_column]) for of_column in values]
        if any(one[key] is not None for of_column in values for one in of_column):
            figures[title] = texts
    tags = [" ".join(dict.fromkeys(tag for row in column.rows for tag in row.tags)) for column in columns]
    if any(tags):
        figures["tags"] = tags
    return figures


def _counted(states: Sequence[str]) -> str:
    """Return the state of all runs, or how many have each: "2 done, 1 failed"."""
    counts = Counter(states)
    return states[0] if len(counts) == 1 else ", ".join(f"{n} {state}" for state, n in counts.items())


def _figure(key: str, values: Sequence[Any]) -> str:
    """Return a figure of one run, or the mean of several with their standard deviation; a dash if one is unknown."""
    if len(set(values)) == 1:
        return figure_text(key, values[0])
    if any(value is None for value in values):
        return figure_text(key, None)
    deviation = float(f"{statistics.stdev(values):.2g}")
    return f"{figure_text(key, statistics.fmean(values))} ± {figure_text(key, deviation)}"


def settings_of(columns: Sequence[Column], per_row: Sequence[str]) -> list[str] | None:
    """Return the text of a setting for each column; None if only runs within the columns differ in it.

    per_row: the text of each run, in the order of the columns. The values of several runs are separated by commas.
    """
    texts = []
    rest = list(per_row)
    for column in columns:
        n = len(column.rows)
        texts.append(", ".join(dict.fromkeys(rest[:n])))
        rest = rest[n:]
    return texts if len(set(texts)) > 1 or len(set(per_row)) == 1 else None

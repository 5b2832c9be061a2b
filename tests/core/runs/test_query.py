"""Filtering and sorting runs."""

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.tiny import tiny
from tui_lab.core.runs.catalog import RunRow
from tui_lab.core.runs.query import ordered, parse_condition, select
from tui_lab.util.errors import ConfigError


def row(name: str = "a", *overrides: str, **values: Any) -> RunRow:
    return RunRow(Path(name), name, 0.0, values.pop("state", "done"), config=tiny(*overrides), **values)


GOOD = row("reverse-1", "optim.lr=0.001", "optim.betas=[0.8, 0.9]", val_loss=0.5, tags=("keep",), note="the Best")
BAD = row("reverse-2", "optim.lr=0.1", "optim.name=sgd", state="failed", metric_name="perplexity", metric=9.0)
BROKEN = RunRow(Path("c"), "c", 0.0, "damaged")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("optim.lr<0.01", [GOOD]),
        ("optim.lr >= 1e-3", [GOOD, BAD]),
        ("optim.name=sgd", [BAD]),
        ("optim.name != sgd", [GOOD, BROKEN]),
        ("optim.betas=[0.8, 0.9]", [GOOD]),
        ("val_loss<=0.5", [GOOD]),
        ("perplexity>1", [BAD]),
        ("exact_match>0", []),
        ("state==failed", [BAD]),
        ("tag=keep", [GOOD]),
        ("tag!=keep", [BAD, BROKEN]),
        ("tag=kee", []),
        ("note~best", [GOOD]),
        ("name~VERSE", [GOOD, BAD]),
        ("reverse", [GOOD, BAD]),
        ("keep", [GOOD]),
        ("kee", []),
    ],
)
def test_condition_selects_rows(text: str, expected: list[RunRow]) -> None:
    assert select([GOOD, BAD, BROKEN], [parse_condition(text)]) == expected


def test_every_condition_must_hold() -> None:
    assert select([GOOD, BAD], [parse_condition("reverse"), parse_condition("optim.lr>0.01")]) == [BAD]
    assert select([GOOD, BAD], []) == [GOOD, BAD]


@pytest.mark.parametrize(
    ("text", "code", "suggestion"),
    [
        ("lr<1", "unknown_key", "optim.lr"),
        ("val_los<1", "unknown_key", "val_loss"),
        ("optim.lr<small", "wrong_type", ""),
        ("optim.lr<true", "wrong_type", ""),
        ("", "invalid", ""),
        ("a b < 3", "invalid", ""),
    ],
)
def test_malformed_condition_is_refused(text: str, code: str, suggestion: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_condition(text)
    [problem] = caught.value.problems
    assert (problem.code, problem.suggestion) == (code, suggestion)


@given(st.lists(st.none() | st.floats(allow_infinity=True, allow_nan=True), max_size=9), st.booleans())
def test_rows_without_a_value_are_sorted_last(losses: list[float | None], falling: bool) -> None:
    rows = [row(str(i), val_loss=loss) for i, loss in enumerate(losses)]
    in_order = ordered(rows, "-val_loss" if falling else "val_loss")
    values = [one.val_loss for one in in_order]
    known = [value for value in values if value is not None and not math.isnan(value)]
    assert sorted(known, reverse=falling) == known == values[: len(known)]
    assert sorted(in_order, key=lambda one: int(one.name)) == rows


def test_rows_are_sorted_by_a_setting() -> None:
    assert ordered([BAD, BROKEN, GOOD], "optim.lr") == [GOOD, BAD, BROKEN]
    with pytest.raises(ConfigError) as caught:
        ordered([], "step")
    assert (caught.value.code, caught.value.problems[0].suggestion) == ("unknown_key", "steps")

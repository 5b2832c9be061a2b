"""Filtering and sorting runs."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.recorded import script_config
from tests.core.tiny import tiny
from tui_lab.core import events as ev
from tui_lab.core.runs.catalog import RunRow
from tui_lab.core.runs.query import check_captured, ordered, parse_condition, select
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


def test_setting_changed_live_has_its_last_value() -> None:
    values = (0.1, 0.0005, 0.0007)
    changes = tuple(ev.Changed(step=step, key="optim.lr", old=0.001, new=new) for step, new in enumerate(values))
    steered = replace(GOOD, changes=changes)
    assert select([steered, GOOD, BAD], [parse_condition("optim.lr<0.001")]) == [steered]
    assert ordered([BAD, GOOD, steered], "optim.lr") == [steered, GOOD, BAD]


def test_every_condition_must_hold() -> None:
    assert select([GOOD, BAD], [parse_condition("reverse"), parse_condition("optim.lr>0.01")]) == [BAD]
    assert select([GOOD, BAD], []) == [GOOD, BAD]


@pytest.mark.parametrize(
    ("text", "code", "suggestion"),
    [
        ("lr<1", "unknown_key", "optim.lr"),
        ("val_los<1", "unknown_key", "val_loss"),
        ("cfg.width<1", "unknown_key", "settings.cfg.width"),
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


def script_row(name: str, **captured: bool | int | float | str) -> RunRow:
    return RunRow(Path(name), name, 0.0, "done", config=script_config("tokens", **captured))


SCRIPT = script_row("script-1", learning_rate=3e-4, compile=True, note="a b")
OTHER_SCRIPT = script_row("script-2", learning_rate="auto")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("optim.lr>=0.01", [BAD, SCRIPT, OTHER_SCRIPT]),
        ("settings.learning_rate<0.001", [SCRIPT]),
        ("settings.learning_rate=auto", [OTHER_SCRIPT]),
        ("settings.compile=true", [SCRIPT]),
        ("settings.note~B", [SCRIPT]),
        ("optim.lr_factor=1.0", [SCRIPT, OTHER_SCRIPT]),
        ("model.name=GPT", [SCRIPT, OTHER_SCRIPT]),
        ("train.steps>=0", [GOOD, BAD]),
        ("kind=script", [SCRIPT, OTHER_SCRIPT]),
        ("kind=trainer", [GOOD, BAD]),
        ("kind!=trainer", [BROKEN, SCRIPT, OTHER_SCRIPT]),
    ],
)
def test_condition_selects_runs_of_scripts_too(text: str, expected: list[RunRow]) -> None:
    assert select([GOOD, BAD, BROKEN, SCRIPT, OTHER_SCRIPT], [parse_condition(text)]) == expected


def test_numbers_come_before_text() -> None:
    third = script_row("script-3", learning_rate=1)
    rows = [OTHER_SCRIPT, GOOD, third, BROKEN, SCRIPT]
    assert ordered(rows, "settings.learning_rate") == [SCRIPT, third, OTHER_SCRIPT, GOOD, BROKEN]
    assert ordered(rows, "-settings.learning_rate") == [OTHER_SCRIPT, third, SCRIPT, GOOD, BROKEN]


def test_captured_setting_that_no_run_has_suggests_the_nearest() -> None:
    rows = [GOOD, SCRIPT, BROKEN]
    check_captured(rows, ["settings.learning_rate", "optim.lr", "", "val_loss"])
    with pytest.raises(ConfigError) as caught:
        check_captured(rows, ["settings.lerning_rate"])
    [problem] = caught.value.problems
    assert (problem.code, problem.suggestion) == ("unknown_key", "settings.learning_rate")

import json
import math
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tui_lab.core import events as ev
from tui_lab.util.strict_json import dumps

numbers = st.floats() | st.just(math.inf) | st.just(-math.inf)
VALUES: dict[Any, st.SearchStrategy[Any]] = {
    int: st.integers(0, 2**53),
    float: numbers,
    float | None: st.none() | numbers,
    int | None: st.none() | st.integers(0, 2**53),
    bool: st.booleans(),
    str: st.text(),
    tuple[str, ...]: st.lists(st.text()).map(tuple),
    Any: st.none() | st.integers(0, 2**53) | st.booleans() | st.text(),
}


@st.composite
def any_event(draw: st.DrawFn) -> ev.Event:
    kind = draw(st.sampled_from(sorted(ev.KINDS)))
    event = ev.KINDS[kind]
    return event(**{f.name: draw(VALUES[f.type]) for f in fields(event)})


@given(any_event())
def test_every_event_survives_strict_json(event: ev.Event) -> None:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    record = json.loads(dumps(event.to_json()), parse_constant=refuse)
    again = ev.from_json(record)
    assert repr(again) == repr(event), "repr, since NaN is not equal to itself"


@pytest.mark.parametrize(
    "record", [{}, {"event": "stepp", "step": 1}, {"event": "paused"}, {"event": "paused", "step": 1, "more": 2}]
)
def test_a_record_of_no_known_shape_is_refused(record: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="event"):
        ev.from_json(record)

"""Events: every one survives strict JSON, and a record of another shape is refused."""

import json
import math
from dataclasses import fields
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from tui_lab.core import events as ev
from tui_lab.core.nonfinite.record import BatchRow, Origin, TensorRange
from tui_lab.util.strict_json import dumps

FLOATS = st.floats() | st.just(math.inf) | st.just(-math.inf)
COUNTS = st.integers(0, ev.LARGEST)
COUNT_FIELDS = (
    "step", "steps", "parameters", "n_vocab", "train_examples", "val_examples", "threads", "epoch", "tokens",
    "examples", "since_best",
)  # fmt: skip
OPTIONAL_FIELDS = ("grad_norm", "update_ratio", "dead_units", "data_seconds", "exact_match", "perplexity")
ranges = st.builds(
    TensorRange,
    name=st.text(),
    dtype=st.text(),
    shape=st.lists(COUNTS).map(tuple),
    low=st.none() | st.floats(allow_nan=False, allow_infinity=False),
    high=st.none(),
    n_nan=COUNTS,
)
rows = st.builds(
    BatchRow, row=COUNTS, example=st.none() | COUNTS, positions=st.lists(COUNTS).map(tuple), text=st.text()
)
origins = st.builds(
    Origin,
    quantity=st.sampled_from(["loss", "gradient"]),
    phase=st.sampled_from(["forward", "weights", "unknown"]),
    kind=st.sampled_from(["inf", "nan"]),
    module=st.text(),
    inputs=st.lists(ranges, max_size=2).map(tuple),
    output=st.none() | ranges,
    rows=st.lists(rows, max_size=2).map(tuple),
    rank=st.none() | COUNTS,
)
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    **dict.fromkeys(COUNT_FIELDS, COUNTS),
    **dict.fromkeys(("loss", "loss_ema", "lr", "seconds", "tokens_per_s", "val_loss"), FLOATS),
    **dict.fromkeys(OPTIONAL_FIELDS, st.none() | FLOATS),
    **dict.fromkeys(("device", "key", "path", "message", "details"), st.text()),
    "by_layer": st.none() | st.dictionaries(st.text(), st.dictionaries(st.text(), FLOATS)),
    "extra": st.none() | st.dictionaries(st.text(), FLOATS),
    "values": st.dictionaries(st.text(), FLOATS),
    "texts": st.dictionaries(st.text(), st.text()),
    **dict.fromkeys(("resumed", "best"), st.booleans()),
    **dict.fromkeys(("old", "new"), st.none() | COUNTS | st.booleans() | st.text()),
    "faults": st.lists(st.text()).map(tuple),
    "restored": st.none() | COUNTS,
    "time": st.none() | st.floats(0, ev.LATEST),
    "origin": origins,
    "reason": st.sampled_from(["done", "target", "patience", "stopped"]),
}
KINDS: tuple[type[ev.Event], ...] = get_args(get_args(ev.AnyEvent)[0])


@st.composite
def any_event(draw: st.DrawFn) -> ev.Event:
    kind = draw(st.sampled_from(KINDS))
    names = [field.name for field in fields(kind) if field.name != "kind"]
    return kind(**{name: draw(FIELDS[name]) for name in names})


def strict(text: str) -> Any:
    """Parse JSON without the NaN that Python's parser accepts."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    return json.loads(text, parse_constant=refuse)


@given(any_event())
def test_event_survives_strict_json(event: ev.Event) -> None:
    line = dumps(event.to_json())
    assert list(strict(line))[:2] == ["event", "step"], "old readers search for the step"
    # Compared by repr, since NaN is not equal to itself.
    assert repr(ev.parse_event(line)) == repr(event)
    assert repr(ev.from_json(strict(line))) == repr(event)


def test_event_schema_is_a_union_of_all_kinds() -> None:
    schema = TypeAdapter(ev.AnyEvent).json_schema()
    assert set(schema["discriminator"]["mapping"]) == {kind.__dataclass_fields__["kind"].default for kind in KINDS}


def test_stop_reason_of_old_logs_is_read() -> None:
    event = ev.from_json({"event": "stopped", "step": 1, "reason": "asked"})
    assert event == ev.Stopped(step=1, reason="stopped")


def test_events_of_old_logs_get_the_defaults_of_newer_fields() -> None:
    step = {
        "event": "step", "step": 1, "loss": 2.0, "loss_ema": 2.0, "lr": 0.1, "grad_norm": 1.0, "epoch": 0, "tokens": 4,
        "seconds": 1.0, "tokens_per_s": 4.0,
    }  # fmt: skip
    parsed = ev.from_json(step)
    assert isinstance(parsed, ev.StepDone) and parsed.extra is None and parsed.time is None
    assert ev.from_json({"event": "failed", "step": 1, "message": "no"}) == ev.Failed(step=1, message="no", details="")


@pytest.mark.parametrize(
    "record",
    [
        {},
        [],
        {"event": "stepp", "step": 1},
        {"event": "paused"},
        {"event": "paused", "step": 1, "more": 2},
        {"event": "paused", "step": -1},
        {"event": "paused", "step": True},
        {"event": "paused", "step": 2**63},
        {"event": "paused", "step": 1, "time": -1.0},
        {"event": "warned", "step": 1, "message": 2},
        {"event": "stopped", "step": 1, "reason": "bored"},
        {"event": "logged", "step": 1, "values": {"accuracy": "high"}},
        {"event": "logged", "step": 1, "texts": {"sample": 2}},
    ],
)
def test_record_of_another_shape_is_refused(record: Any) -> None:
    with pytest.raises(ValueError, match="not an event"):
        ev.from_json(record)
    with pytest.raises(ValueError, match="not an event"):
        ev.parse_event(json.dumps(record))

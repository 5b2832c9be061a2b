"""An export that is imported again is the same run, as far as the format can hold it."""

import tempfile
from dataclasses import fields, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.recorded import STARTED, evaluated, recorded, recorded_script, update
from tests.core.runs.importing.reading import evaluations, logged, sources, steps
from tui_lab.core import events as ev
from tui_lab.core.runs import export
from tui_lab.core.runs.importing.events import events_of

ANY = st.floats(width=32)
"""A number that a TensorBoard file can hold; NaN and infinity are among them."""
POSITIVE = st.floats(0, 1e6, width=32)
STEP = st.builds(
    ev.StepDone,
    step=st.just(0),
    loss=ANY,
    loss_ema=ANY,
    lr=ANY,
    grad_norm=st.none() | POSITIVE,
    epoch=st.integers(0, 9),
    tokens=st.integers(0, 100),
    seconds=POSITIVE,
    tokens_per_s=POSITIVE,
    update_ratio=st.none() | POSITIVE,
    dead_units=st.none() | st.floats(0, 1, width=32),
    data_seconds=st.none() | POSITIVE,
)
FROM_SERIES = ("step", "loss", "loss_ema", "lr", "grad_norm", "update_ratio", "dead_units", "tokens_per_s")
"""Of a step, what is a series of an exported event file."""


@st.composite
def trainings(draw: st.DrawFn) -> list[ev.Event]:
    """Steps whose numbers and tokens increase, some of them with an evaluation."""
    found: list[ev.Event] = [STARTED]
    step = 0
    tokens = 0
    for event in draw(st.lists(STEP, min_size=1, max_size=8)):
        step += draw(st.integers(1, 1000))
        tokens += event.tokens
        found.append(replace(event, step=step, tokens=tokens))
        if draw(st.booleans()):
            found.append(evaluated(step, draw(ANY), exact_match=draw(st.none() | st.floats(0, 1, width=32))))
    return found


def values(event: ev.Event, names: tuple[str, ...]) -> str:
    """The fields as a text, since NaN is not equal to itself."""
    return repr([getattr(event, name) for name in names])


@settings(max_examples=40, deadline=None)
@given(trainings())
def test_csv(found: list[ev.Event]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        export.to_csv({"a": recorded(folder / "a", found)}, folder / "a.csv")
        [source] = sources(folder / "a.csv")
        imported = list(events_of(source))
    of_step = tuple(field.name for field in fields(ev.StepDone) if field.name != "time")
    assert [values(one, of_step) for one in steps(imported)] == [values(one, of_step) for one in steps(found)]
    of_evaluation = ("step", "val_loss", "exact_match", "examples")
    assert [values(one, of_evaluation) for one in evaluations(imported)] == [
        values(one, of_evaluation) for one in evaluations(found)
    ]
    assert logged(imported) == []


@settings(max_examples=20, deadline=None)
@given(trainings())
def test_tensorboard(found: list[ev.Event]) -> None:
    pytest.importorskip("tensorboard")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        export.to_tensorboard({"a": recorded(folder / "a", found)}, folder / "logs")
        [source] = sources(folder / "logs")
        imported = list(events_of(source))
    assert [values(one, FROM_SERIES) for one in steps(imported)] == [values(one, FROM_SERIES) for one in steps(found)]
    of_evaluation = ("step", "val_loss", "exact_match")
    assert [values(one, of_evaluation) for one in evaluations(imported)] == [
        values(one, of_evaluation) for one in evaluations(found)
    ]


def test_csv_of_a_script_keeps_what_it_logged_and_each_layer(tmp_path: Path) -> None:
    by_layer = {"grad_norm": {"h.0": 0.5, "h.1": 0.25}}
    runs = {
        "script": recorded_script(tmp_path / "s"),
        "layers": recorded(tmp_path / "l", [STARTED, replace(update(1), by_layer=by_layer)]),
    }
    export.to_csv(runs, tmp_path / "all.csv")
    by_name = {source.name: list(events_of(source)) for source in sources(tmp_path / "all.csv")}
    assert list(by_name) == ["script", "layers"]
    assert steps(by_name["script"])[-1].extra == {"script_lr": 0.01, "lr/1": 0.001, "memory_mib": 300.5}
    assert [(one.step, one.values) for one in logged(by_name["script"])] == [
        (4, {"accuracy": 0.5}),
        (8, {"accuracy": 1.0}),
    ]
    assert steps(by_name["layers"])[0].by_layer == by_layer

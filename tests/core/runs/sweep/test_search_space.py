import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tui_lab.core.runs.sweep import search_space
from tui_lab.core.runs.sweep.search_space import Choices, Range, parse_axis
from tui_lab.util.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("optim.lr=0.01,1e-3", Choices("optim.lr", (0.01, 1e-3))),
        ("optim.name=adam,sgd", Choices("optim.name", ("adam", "sgd"))),
        ("optim.betas=[0.9,0.99],[0.8,0.9]", Choices("optim.betas", ([0.9, 0.99], [0.8, 0.9]))),
        ('faults=[],["no_mask"]', Choices("faults", ([], ["no_mask"]))),
        ('data.path="a,b.txt",c.txt', Choices("data.path", ("a,b.txt", "c.txt"))),
        ("data.path=../a.txt,../b.txt", Choices("data.path", ("../a.txt", "../b.txt"))),
        ("optim.lr=1e-4..1e-1:log", Range("optim.lr", 1e-4, 1e-1, log=True)),
        ("model.dropout=0..1", Range("model.dropout", 0.0, 1.0)),
        ("model.n_layers=1..4", Range("model.n_layers", 1, 4)),
    ],
)
def test_what_stands_after_over(text: str, expected: search_space.Axis) -> None:
    found = parse_axis(text)
    assert found == expected and type(found) is type(expected)
    assert search_space.axis(found.key, found.spec) == found, "sweep.json gives the axis back"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("optim.lrr=1,2", "optim.lrr: unknown key; did you mean optim.lr?"),
        ("lr=1,2", "lr: unknown key; did you mean optim.lr?"),
        ("optim.lr", "write KEY=V1,V2"),
        ("optim.lr=", "write KEY=V1,V2"),
        ("optim.lr=0.1,1e-1", "is there twice"),
        ("optim.lr=1..0.1", "the first end must be below the second"),
        ("optim.lr=0..1:log", "above 0, since it is logarithmic"),
        ("optim.lr=0..x", "a range is LOW..HIGH"),
        ("optim.lr=0..1:lin", "a range is LOW..HIGH"),
        ("model.n_layers=1.5..3", "whole numbers"),
        ("optim.name=adam..sgd", "it has no range"),
    ],
)
def test_a_bad_axis_is_told_with_what_is_allowed(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words.replace("?", r"\?").replace("(", r"\(")):
        parse_axis(text)


def test_a_grid_has_every_combination_once_the_last_key_the_fastest() -> None:
    found = search_space.grid([parse_axis("optim.name=adam,sgd"), parse_axis("optim.lr=1,2,3")])
    assert [tuple(point.values()) for point in found] == [(n, lr) for n in ("adam", "sgd") for lr in (1, 2, 3)]
    with pytest.raises(ConfigError, match="--random N"):
        search_space.grid([parse_axis("optim.lr=0..1")])


def test_draws_are_different_within_their_bounds_and_given_by_the_seed() -> None:
    space = [
        parse_axis("optim.lr=1e-4..1e-1:log"),
        parse_axis("model.n_layers=1..4"),
        parse_axis("optim.name=adam,sgd"),
    ]
    found = search_space.draw(space, 30, seed=1)
    assert len(found) == 30 and found == search_space.draw(space, 30, seed=1) != search_space.draw(space, 30, seed=2)
    assert all(1e-4 <= point["optim.lr"] <= 1e-1 for point in found)
    assert {type(point["model.n_layers"]) for point in found} == {int}
    low = sum(point["optim.lr"] < 10**-2.5 for point in found)
    assert 5 < low < 25, "as many below the middle of the decades as above"


def test_no_point_is_drawn_twice_though_there_are_fewer_than_asked_for() -> None:
    found = search_space.draw([parse_axis("model.n_layers=1..2"), parse_axis("optim.name=adam,sgd")], 10, seed=0)
    assert len(found) == 4 and len({tuple(point.values()) for point in found}) == 4


VALUES = st.one_of(
    st.booleans(), st.integers(-3, 3), st.floats(-3, 3), st.text(max_size=3), st.lists(st.floats(0, 1), max_size=2)
)


@given(st.lists(VALUES, min_size=1, max_size=6, unique_by=repr))
def test_values_of_any_kinds_come_back_from_optuna_as_they_were(values: list[object]) -> None:
    axis = Choices("k", tuple(values))
    space = axis.distribution()
    for value in values:
        stored = space.to_external_repr(space.to_internal_repr(axis.stored(value)))
        back = axis.value(stored)
        assert back == value and type(back) is type(value)


@given(st.lists(st.sampled_from(["a", "'b,c'", "[1,2]", '["x,y", 2]', "3.5"]), min_size=1))
def test_commas_in_brackets_and_quotes_divide_nothing(parts: list[str]) -> None:
    assert search_space.split(",".join(parts)) == parts


def test_labels_are_short_where_that_is_clear() -> None:
    assert search_space.label({"optim.lr": 0.001, "model.dropout": 0.0}) == "lr=0.001 dropout=0.0"
    assert search_space.label({"optim.lr": math.pi / 1000, "faults": ["no_mask"]}) == 'lr=0.003142 faults=["no_mask"]'
    assert search_space.label({"data.path": "a\x1b[2J"}) == 'path="a\\u001b[2J"'

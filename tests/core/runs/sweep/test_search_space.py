"""Search spaces: parsing axes, grids, random draws and labels."""

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tui_lab.core.runs.sweep import search_space
from tui_lab.core.runs.sweep.search_space import ChoiceAxis, RangeAxis, parse_axis
from tui_lab.util.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("optim.lr=0.01,1e-3", ChoiceAxis("optim.lr", (0.01, 1e-3))),
        ("optim.name=adam,sgd", ChoiceAxis("optim.name", ("adam", "sgd"))),
        ("optim.betas=[0.9,0.99],[0.8,0.9]", ChoiceAxis("optim.betas", ([0.9, 0.99], [0.8, 0.9]))),
        ('faults=[],["no_mask"]', ChoiceAxis("faults", ([], ["no_mask"]))),
        ('data.path="a,b.txt",c.txt', ChoiceAxis("data.path", ("a,b.txt", "c.txt"))),
        ("data.path=../a.txt,../b.txt", ChoiceAxis("data.path", ("../a.txt", "../b.txt"))),
        ("optim.lr=1e-4..1e-1:log", RangeAxis("optim.lr", 1e-4, 1e-1, log=True)),
        ("model.dropout=0..1", RangeAxis("model.dropout", 0.0, 1.0)),
        ("model.n_layers=1..4", RangeAxis("model.n_layers", 1, 4)),
    ],
)
def test_axis_is_parsed(text: str, expected: search_space.Axis) -> None:
    axis = parse_axis(text)
    assert axis == expected and type(axis) is type(expected)
    assert search_space.axis(axis.key, axis.spec) == axis, "read back from sweep.json"


@pytest.mark.parametrize(
    ("text", "code", "key", "value"),
    [
        ("optim.lr", "invalid", "--over", "optim.lr"),
        ("optim.lr=", "invalid", "--over", "optim.lr="),
        ("optim.lr=0.1,1e-1", "invalid", "optim.lr", 0.1),
        ("optim.lr=1..0.1", "invalid", "optim.lr", "1..0.1"),
        ("optim.lr=0..1:log", "invalid", "optim.lr", "0..1:log"),
        ("optim.lr=0..x", "invalid", "optim.lr", "0..x"),
        ("optim.lr=0..1:lin", "invalid", "optim.lr", "0..1:lin"),
        ("model.n_layers=1.5..3", "wrong_type", "model.n_layers", "1.5..3"),
        ("optim.name=adam..sgd", "wrong_type", "optim.name", "adam..sgd"),
    ],
)
def test_malformed_axis_is_refused(text: str, code: str, key: str, value: object) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_axis(text)
    [problem] = caught.value.problems
    assert (problem.code, problem.key, problem.value) == (code, key, value)


@pytest.mark.parametrize("text", ["optim.lrr=1,2", "lr=1,2"])
def test_axis_of_an_unknown_key_suggests_the_nearest(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_axis(text)
    assert (caught.value.code, caught.value.problems[0].suggestion) == ("unknown_key", "optim.lr")


def test_grid_has_every_combination_once() -> None:
    points = search_space.grid([parse_axis("optim.name=adam,sgd"), parse_axis("optim.lr=1,2,3")])
    assert [tuple(point.values()) for point in points] == [(n, lr) for n in ("adam", "sgd") for lr in (1, 2, 3)]


def test_grid_of_a_range_is_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        search_space.grid([parse_axis("optim.lr=0..1")])
    assert (caught.value.code, caught.value.problems[0].key) == ("missing", "optim.lr")


def test_draws_are_distinct_within_bounds_and_follow_from_the_seed() -> None:
    space = [
        parse_axis("optim.lr=1e-4..1e-1:log"),
        parse_axis("model.n_layers=1..4"),
        parse_axis("optim.name=adam,sgd"),
    ]
    points = search_space.draw(space, 30, seed=1)
    assert len(points) == 30 and points == search_space.draw(space, 30, seed=1) != search_space.draw(space, 30, seed=2)
    assert all(1e-4 <= point["optim.lr"] <= 1e-1 for point in points)
    assert {type(point["model.n_layers"]) for point in points} == {int}


@pytest.mark.parametrize("n", [3, 4, 16])
def test_draws_cover_each_range(n: int) -> None:
    space = [
        parse_axis("optim.lr=1e-4..1e-1:log"),
        parse_axis("model.dropout=0..1"),
        parse_axis("model.n_layers=1..4"),
        parse_axis("optim.name=adam,sgd"),
    ]
    points = search_space.draw(space, n, seed=0)
    rates = [(math.log10(point["optim.lr"]) + 4) / 3 for point in points]
    for shares in (rates, [point["model.dropout"] for point in points]):
        assert sorted(int(share * n) for share in shares) == list(range(n)), "one in each of n equal parts"
    if n % 4 == 0:
        assert Counter(point["model.n_layers"] for point in points) == dict.fromkeys((1, 2, 3, 4), n // 4)
        assert Counter(point["optim.name"] for point in points) == {"adam": n // 2, "sgd": n // 2}


def test_small_space_gives_each_point_once() -> None:
    points = search_space.draw([parse_axis("model.n_layers=1..2"), parse_axis("optim.name=adam,sgd")], 10, seed=0)
    assert len(points) == 4 and len({tuple(point.values()) for point in points}) == 4


VALUES = st.one_of(
    st.booleans(), st.integers(-3, 3), st.floats(-3, 3), st.text(max_size=3), st.lists(st.floats(0, 1), max_size=2)
)


@given(st.lists(VALUES, min_size=1, max_size=6, unique_by=repr))
def test_values_of_any_type_survive_optuna(values: list[object]) -> None:
    axis = ChoiceAxis("k", tuple(values))
    space = axis.distribution()
    for value in values:
        stored = space.to_external_repr(space.to_internal_repr(axis.stored(value)))
        back = axis.value(stored)
        assert back == value and type(back) is type(value)


@given(st.lists(st.sampled_from(["a", "'b,c'", "[1,2]", '["x,y", 2]', "3.5"]), min_size=1))
def test_commas_in_brackets_and_quotes_do_not_split(parts: list[str]) -> None:
    assert search_space.split(",".join(parts)) == parts


def test_labels_use_short_names_and_escapes() -> None:
    assert search_space.label({"optim.lr": 0.001, "model.dropout": 0.0}) == "lr=0.001 dropout=0.0"
    assert search_space.label({"optim.lr": math.pi / 1000, "faults": ["no_mask"]}) == 'lr=0.003142 faults=["no_mask"]'
    assert search_space.label({"data.path": "a\x1b[2J"}) == 'path="a\\u001b[2J"'

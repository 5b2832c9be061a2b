"""Problems: how they are rendered, and suggestions for mistyped names."""

from pathlib import Path

import pytest

from tui_lab.util.errors import MAX_SHOWN, ConfigError, Problem, nearest, shown
from tui_lab.util.strict_json import dumps, loads


@pytest.mark.parametrize(
    ("problem", "text"),
    [
        (Problem(code="invalid", message="is wrong"), "is wrong"),
        (Problem(code="invalid", message="is wrong", key="k"), "k: is wrong"),
        (Problem(code="invalid", message="is wrong", value="v"), "'v': is wrong"),
        (Problem(code="invalid", message="is wrong", key="k", value=None), "k = None: is wrong"),
        (
            Problem(code="invalid", message="is wrong", key="k", value=3, allowed="1, 2", suggestion="2"),
            "k = 3: is wrong; allowed: 1, 2; did you mean '2'?",
        ),
    ],
)
def test_problem_is_rendered_with_its_fields(problem: Problem, text: str) -> None:
    assert str(problem) == text


@pytest.mark.parametrize(
    "problem",
    [
        Problem(code="invalid", message="is wrong"),
        Problem(code="invalid", message="is wrong", key="k", value=None),
        Problem(code="unknown_name", message="is wrong", value="v", allowed="w", suggestion="w"),
        Problem(code="invalid", message="is wrong", value=10**30),
    ],
)
def test_problem_is_the_same_in_another_process(problem: Problem) -> None:
    assert Problem.from_json(loads(dumps(problem.to_json()))) == problem


def test_value_that_json_does_not_have_is_sent_as_text() -> None:
    fields = loads(dumps(Problem(code="invalid", message="is wrong", value=[Path("a")]).to_json()))
    assert "a" in Problem.from_json(fields).value


def test_error_has_a_line_for_each_problem() -> None:
    error = ConfigError([Problem(code="missing", message="must be set", key="a"), "b is wrong"])
    assert error.code == "missing" and [problem.code for problem in error.problems] == ["missing", "invalid"]
    assert str(error) == "a: must be set\nb is wrong"


def test_nearest_finds_a_similar_name_or_none() -> None:
    assert nearest("revers", ["socrates", "reverse"]) == "reverse"
    assert nearest("zzz", ["socrates", "reverse"]) == ""
    assert nearest("x" * 10_000, ["x" * 10_000]) == "", "comparing long names would take too long"


def test_shown_value_is_bounded() -> None:
    nested: list[object] = []
    for _ in range(100_000):
        nested = [nested]
    assert len(shown("x" * 10_000)) == MAX_SHOWN + 1
    assert "int" in shown(10**5000) and "list" in shown(nested)

"""The plan of a sweep over a script: which value goes where, and what is refused."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tui_lab.core.runs.sweep import folder as sweeps
from tui_lab.core.runs.sweep.folder import Plan
from tui_lab.core.runs.sweep.script_plan import script_plan
from tui_lab.core.runs.sweep.script_trials import ScriptTrials
from tui_lab.util.errors import ConfigError

SOURCE = """
parser.add_argument("--lr")
width = 8
rate = 3e-4
name = "adam"
betas = (0.9, 0.95)
fast = False
"""


@pytest.fixture
def script(tmp_path: Path) -> ScriptTrials:
    (tmp_path / "train.py").write_text(SOURCE, "utf-8")
    arguments = ("--out={folder}", "--json={braces}", "model.depth={depth}")
    return ScriptTrials("train.py", arguments, is_module=False, folder=str(tmp_path))


def plan(script: ScriptTrials, *over: str, **options: Any) -> Plan:
    return script_plan(script, over, options, None)


def test_each_kind_of_value_gets_into_the_script(script: ScriptTrials, tmp_path: Path) -> None:
    planned = plan(script, "--lr=1e-3", "depth=2,4", "width=16", "betas=(0.8,0.9)", "name=sgd", "fast=true")
    read = sweeps.read_sweep(sweeps.create_sweep(planned, tmp_path / "s").path).plan
    assert read.same_as(planned) and len(read.points) == 2 and read.script is not None
    arguments = read.script.arguments_for(read.points[1], "trials/1")
    assert arguments == ("--out=trials/1", "--json={braces}", "model.depth=4", "--lr=1e-3")
    assert read.script.assigned_for(read.points[1]) == {
        "width": "16", "betas": "[0.8, 0.9]", "name": "'sgd'", "fast": "True",
    }  # fmt: skip
    assert read.threads(0) == 0 and read.script.seed_for(read.points[0]) == 0


def test_fixed_values_are_those_of_all_trials(script: ScriptTrials, tmp_path: Path) -> None:
    sets = ["--lr=1,2", "width=16", "depth=3"]
    planned = script_plan(script, ["rate=0.1,0.2"], {}, None, sets=sets)
    read = sweeps.read_sweep(sweeps.create_sweep(planned, tmp_path / "s").path).plan
    assert read.same_as(planned) and list(read.over) == ["rate"] and read.script is not None
    assert read.script.arguments_for(read.points[0], "f")[-2:] == ("model.depth=3", "--lr=1,2")
    assert read.script.assigned_for(read.points[1]) == {"width": "16", "rate": "0.2"}


@pytest.mark.parametrize(
    ("text", "code"),
    [("rate=0.3", "conflict"), ("nothing=1", "unknown_name"), ("width", "invalid"), ("width=a", "wrong_type")],
)
def test_impossible_fixed_value_is_refused(script: ScriptTrials, text: str, code: str) -> None:
    with pytest.raises(ConfigError) as error:
        script_plan(script, ["rate=0.1,0.2"], {}, None, sets=[text])
    assert error.value.problems[0].code == code


def test_misspelled_place_is_refused(script: ScriptTrials) -> None:
    with pytest.raises(ConfigError) as error:
        plan(replace(script, arguments=("lr={lr}", "out={foldr}", "{other}")), "lr=1,2")
    assert error.value.problems[0].suggestion == "{folder}"


def test_module_of_a_library_has_only_arguments(tmp_path: Path) -> None:
    module = ScriptTrials("json.tool", ("{n}",), is_module=True, folder=str(tmp_path))
    assert plan(module, "n=1,2", "--lr=1").script == module
    with pytest.raises(ConfigError):
        plan(module, "lr=1")


def test_draws_have_the_type_of_what_the_script_assigns(script: ScriptTrials) -> None:
    planned = plan(script, "width=2..64:log", "rate=1..2", "--lr=1e-5..1e-1:log", "depth=1..9", random=8)
    assert [axis.spec for axis in planned.axes] == list(planned.over.values())
    kinds = {tuple(type(value) for value in point.values()) for point in planned.points}
    assert kinds == {(int, float, float, int)}


def test_seeds_repeat_each_point(script: ScriptTrials) -> None:
    planned = plan(script, "width=1,2", seeds=2)
    assert planned.script is not None
    assert [planned.script.seed_for(point) for point in planned.points] == [0, 1, 0, 1]


@pytest.mark.parametrize(
    ("over", "options", "code", "suggestion"),
    [
        ("lr=1", {}, "unknown_name", "--lr"),
        ("widths=1", {}, "unknown_name", "width"),
        ("width=a", {}, "wrong_type", ""),
        ("fast=1", {}, "wrong_type", ""),
        ("name=1..2", {"random": 1}, "wrong_type", ""),
        ("width=1.5..2.5", {"random": 1}, "wrong_type", ""),
        ("width=1..2", {}, "missing", ""),
        ("folder=1", {}, "invalid", ""),
        ("=1", {}, "invalid", ""),
        ("width=1", {"metric": "exact_match"}, "unknown_name", ""),
        ("width=1", {"metric": "los"}, "unknown_name", "loss"),
        ("width=1", {"metric": "tokens_per_s", "prune": True}, "conflict", ""),
    ],
)
def test_impossible_sweep_is_refused(
    script: ScriptTrials, over: str, options: dict[str, Any], code: str, suggestion: str
) -> None:
    with pytest.raises(ConfigError) as error:
        plan(script, over, **options)
    [problem] = error.value.problems
    assert problem.code == code and (problem.suggestion or "") == suggestion


def test_module_is_read_where_python_finds_it(tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__main__.py").write_text("lr = 1\n", "utf-8")
    module = ScriptTrials("package", (), is_module=True, folder=str(tmp_path))
    assert plan(module, "lr=2").script == ScriptTrials("package", (), True, str(tmp_path), assigned=("lr",))

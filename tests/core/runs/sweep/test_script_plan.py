"""The plan of a sweep over a script: which value goes where, and what is refused."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tui_lab.core.runs.sweep import folder as sweeps
from tui_lab.core.runs.sweep.folder import Plan
from tui_lab.core.runs.sweep.script_plan import script_plan
from tui_lab.core.runs.sweep.script_trials import ScriptTrials
from tui_lab.core.runs.sweep.script_values import ScriptValues
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


def test_zero_and_one_stand_for_numbers_with_a_fraction(script: ScriptTrials, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("dropout = 0\nclip = 1\nmomentum = 0\n", "utf-8")
    planned = plan(script, "depth=1", "dropout=0.1,0", "clip=0.5..2.5", "momentum=0..1", random=4)
    assert len({point["momentum"] for point in planned.points}) == 4
    assert {type(point["clip"]) for point in planned.points} == {float}
    assert {point["dropout"] for point in planned.points} == {0.1, 0}


CONFIG = """
lr = 1
class Optim:
    lr = 2
    wd = 0.5
table = {"optim": {"beta": 3}}
width = 4
width = 5
half = lr / 2
def get():
    wd = 0.1
    beta1 = 0.9
    optimizer = Adam(beta1=beta1)
"""


@pytest.fixture
def script_with_module(script: ScriptTrials, tmp_path: Path) -> ScriptTrials:
    (tmp_path / "train.py").write_text("from config import *\nimport config\ndepth = 1\n", "utf-8")
    (tmp_path / "config.py").write_text(CONFIG, "utf-8")
    return replace(script, arguments=())


@pytest.mark.parametrize(
    ("name", "full_name"),
    [
        ("config.lr", "config.lr"),
        ("Optim.lr", "config.Optim.lr"),
        ("wd", "config.Optim.wd"),
        ("beta1", "config.get.beta1"),
        ("optim.beta", "config.table.optim.beta"),
        ("depth", "depth"),
    ],
)
def test_end_of_a_name_is_enough(name: str, full_name: str, script_with_module: ScriptTrials, tmp_path: Path) -> None:
    planned = plan(script_with_module, f"{name}=7,8")
    assert planned.script is not None and planned.script.assigned == (full_name,) == tuple(planned.over)
    [replacement] = ScriptValues(planned.script).replacements({full_name: "7"})
    file = "" if name == "depth" else str((tmp_path / "config.py").resolve())
    assert (replacement["file"], replacement["key"]) == (file, full_name.removeprefix("config."))


@pytest.mark.parametrize(
    ("name", "code", "named"),
    [
        ("lr", "conflict", ["config.lr (config.py:2)", "config.Optim.lr (config.py:4)"]),
        ("width", "conflict", ["config.width (config.py:7)", "config.width (config.py:8)"]),
        ("half", "invalid", ["config.half (config.py:9)"]),
        ("table", "invalid", ["config.table (config.py:6)"]),
    ],
)
def test_name_that_fits_no_single_line_is_refused_with_the_lines(
    name: str, code: str, named: list[str], script_with_module: ScriptTrials
) -> None:
    with pytest.raises(ConfigError) as error:
        plan(script_with_module, f"{name}=7")
    [problem] = error.value.problems
    assert problem.code == code and all(place in problem.message for place in named)


def test_a_value_is_not_both_set_and_swept_under_two_names(script_with_module: ScriptTrials) -> None:
    with pytest.raises(ConfigError) as error:
        script_plan(script_with_module, ["wd=0.1,0.2"], {}, None, sets=["Optim.wd=0.3"])
    assert error.value.problems[0].code == "conflict"


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
        ("width=8.5", {}, "wrong_type", ""),
        ("rate=nan", {}, "invalid", ""),
        ("rate=1e999", {}, "invalid", ""),
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

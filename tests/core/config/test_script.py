"""ScriptConfig: the config of a run recorded from a script, and the access to settings that works for any run."""

import math
import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.tiny import tiny
from tui_lab.core.config import script, settings
from tui_lab.core.config.script import (
    LARGEST_FACTOR,
    Parallelism,
    ScriptConfig,
    ScriptModelConfig,
    ScriptOptimConfig,
    ScriptTrainConfig,
)
from tui_lab.util.errors import ConfigError

TEXTS = st.text(max_size=20)
POSITIVE = st.floats(0, 1e6)
CAPTURED = st.dictionaries(TEXTS, st.booleans() | st.integers() | st.floats() | TEXTS, max_size=5)
CONFIGS = st.builds(
    ScriptConfig,
    command=st.lists(TEXTS, max_size=3).map(tuple),
    folder=TEXTS,
    model=st.builds(
        ScriptModelConfig, name=TEXTS, dropout=st.none() | st.floats(0, 1), context=st.none() | st.integers(0, 10**6)
    ),
    optim=st.builds(
        ScriptOptimConfig,
        name=TEXTS,
        lr=st.none() | POSITIVE,
        lr_factor=st.floats(0, LARGEST_FACTOR),
        weight_decay=st.none() | st.floats(0, 100),
        grad_clip=st.none() | POSITIVE,
    ),
    train=st.builds(ScriptTrainConfig, steps=st.integers(0, 10**9), unit=st.sampled_from(["tokens", "samples"])),
    settings=CAPTURED,
)
STEERABLE = {"optim.lr_factor": 2.0, "optim.weight_decay": 0.5, "optim.grad_clip": 3.0, "model.dropout": 0.25}


def full() -> ScriptConfig:
    """A config in which every live setting has a value."""
    return ScriptConfig(
        model=ScriptModelConfig(name="GPT", dropout=0.1),
        optim=ScriptOptimConfig(name="AdamW", lr=1e-3, weight_decay=0.1, grad_clip=1.0),
        settings={"learning_rate": 1e-3, "compile": False, "optim.lr": 7},
    )


@given(CONFIGS)
def test_config_survives_toml(config: ScriptConfig) -> None:
    tables = tomllib.loads(script.to_toml(config))
    assert script.is_script(tables)
    # Compared by repr, since NaN is not equal to itself, and True is equal to 1.
    assert repr(script.build(tables)) == repr(config)


def test_file_names_that_are_not_utf8_can_be_written() -> None:
    config = ScriptConfig(command=("caf\udce9.py",), settings={"path": "\udce9"})
    again = script.build(tomllib.loads(script.to_toml(config)))
    assert again.command == ("caf?.py",) and again.settings == {"path": "?"}


@given(CONFIGS)
def test_every_setting_is_read_by_its_key(config: ScriptConfig) -> None:
    values = script.values_of(config)
    assert {key: repr(script.get(config, key)) for key in values} == {key: repr(value) for key, value in values.items()}
    assert None not in values.values()
    assert all(f"settings.{name}" in values for name in config.settings)


@given(CONFIGS)
def test_live_settings_are_those_that_the_script_has(config: ScriptConfig) -> None:
    values = script.values_of(config)
    assert set(script.live_keys(config)) == STEERABLE.keys() & values.keys()
    for key in script.live_keys(config):
        low, high = script.bounds(config, key)
        assert low <= values[key] <= high


def test_without_an_optimizer_only_dropout_can_be_changed() -> None:
    config = script.changed(full(), "optim.name", script.BY_HAND)
    assert script.live_keys(config) == ["model.dropout"] and "optim.grad_clip" in script.values_of(config)
    with pytest.raises(ConfigError) as caught:
        script.get(config, "optim.lr_factor")
    assert (caught.value.code, caught.value.problems[0].key) == ("unavailable", "optim.lr_factor")


@given(CONFIGS, st.sampled_from(sorted(STEERABLE)))
def test_change_affects_one_setting(config: ScriptConfig, key: str) -> None:
    if key not in script.live_keys(config):
        with pytest.raises(ConfigError) as caught:
            script.changed(config, key, STEERABLE[key])
        assert (caught.value.code, caught.value.problems[0].key) == ("unknown_key", key)
        return
    changed = script.changed(config, key, STEERABLE[key])
    assert repr(script.values_of(changed)) == repr(script.values_of(config) | {key: STEERABLE[key]})


@pytest.mark.parametrize(
    ("key", "value", "code"),
    [
        ("optim.lr_factor", -1.0, "invalid"),
        ("optim.lr_factor", 2 * LARGEST_FACTOR, "invalid"),
        ("optim.lr_factor", math.nan, "invalid"),
        ("optim.lr_factor", "fast", "wrong_type"),
        ("model.dropout", 1.5, "invalid"),
        ("optim.grad_clip", -0.5, "invalid"),
        ("optim.weight_decay", [1], "wrong_type"),
    ],
)
def test_change_outside_the_bounds_is_an_error(key: str, value: object, code: str) -> None:
    with pytest.raises(ConfigError) as caught:
        script.changed(full(), key, value)
    assert (caught.value.code, caught.value.problems[0].key) == (code, key)


def test_clipping_to_an_infinite_norm_is_off() -> None:
    assert ScriptOptimConfig(grad_clip=math.inf).grad_clip == 0.0
    assert script.get(script.changed(full(), "optim.grad_clip", math.inf), "optim.grad_clip") == 0.0


@pytest.mark.parametrize(
    ("key", "suggestion"),
    [("optim.lr_facter", "optim.lr_factor"), ("dropout", "model.dropout"), ("settings.learning_rat",
     "settings.learning_rate"), ("zzzzzzzzzz", "")],
)  # fmt: skip
def test_unknown_key_suggests_the_nearest(key: str, suggestion: str) -> None:
    with pytest.raises(ConfigError) as caught:
        script.get(full(), key)
    [problem] = caught.value.problems
    assert (problem.code, problem.key, problem.suggestion) == ("unknown_key", key, suggestion)


@pytest.mark.parametrize(
    ("tables", "code", "key", "suggestion"),
    [
        ({"modle": {}}, "unknown_key", "modle", "model"),
        ({"model": {"dropuot": 0.1}}, "unknown_key", "model.dropuot", "model.dropout"),
        ({"train": {"unit": "token"}}, "unknown_name", "train.unit", "tokens"),
        ({"kind": "scirpt"}, "unknown_name", "kind", "script"),
        ({"model": 3}, "wrong_type", "model", ""),
        ({"settings": 3}, "wrong_type", "settings", ""),
        ({"settings": {"sizes": [1, 2]}}, "wrong_type", "settings.sizes", ""),
        ({"optim": {"lr": math.inf}}, "invalid", "optim.lr", ""),
    ],
)
def test_damaged_config_reports_one_problem(tables: dict[str, Any], code: str, key: str, suggestion: str) -> None:
    tables = {"kind": "script"} | tables
    assert script.is_script(tables)
    with pytest.raises(ConfigError) as caught:
        script.build(tables)
    [problem] = caught.value.problems
    assert (problem.code, problem.key, problem.suggestion) == (code, key, suggestion)


LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | TEXTS | st.datetimes()
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3))
NAMES = (
    st.sampled_from(["command", "folder", "model", "optim", "train", "settings", "lr", "name", "steps", "kind"]) | TEXTS
)
TABLES = st.dictionaries(NAMES, VALUES | st.dictionaries(NAMES, VALUES, max_size=3), max_size=4)


@given(TABLES)
def test_any_tables_are_a_config_or_a_config_error(tables: dict[str, Any]) -> None:
    try:
        config = script.build({"kind": "script"} | tables)
    except ConfigError as error:
        assert all(str(problem) for problem in error.problems)
    else:
        assert script.live_keys(config) and script.known_values(config)


def test_settings_of_a_trainers_config_are_read_the_same_way() -> None:
    config = tiny()
    assert script.values_of(config) == {key: settings.get(config, key) for key in settings.fields()}
    assert script.get(config, "optim.lr") == 0.01
    assert script.bounds(config, "model.dropout") == settings.bounds("model.dropout")
    assert script.get(script.changed(config, "optim.lr", 0.5), "optim.lr") == 0.5
    assert "optim.lr" in script.live_keys(config) and "model.d_model" not in script.live_keys(config)
    with pytest.raises(ConfigError) as caught:
        script.get(config, "lr")
    assert caught.value.problems[0].suggestion == "optim.lr"


def test_trainer_refuses_the_config_of_a_script() -> None:
    with pytest.raises(ConfigError) as caught:
        settings.build(tomllib.loads(script.to_toml(full())))
    [problem] = caught.value.problems
    assert (problem.key, problem.value) == ("kind", "script")


@pytest.mark.parametrize(
    ("parallel", "fixed"),
    [("ddp", set()), ("sharded", {"optim.grad_clip"}), ("none", {"optim.lr_factor", "optim.grad_clip"})],
)
def test_what_several_processes_can_change(parallel: Parallelism, fixed: set[str]) -> None:
    config = ScriptConfig(
        optim=ScriptOptimConfig(grad_clip=1.0), train=ScriptTrainConfig(processes=2, parallel=parallel)
    )
    assert set(script.live_keys(config)) == {"optim.lr_factor", "optim.grad_clip"} - fixed
    for key in fixed:
        problem = script.not_live(config, key)
        assert (problem.key, problem.code) == (key, "unavailable")

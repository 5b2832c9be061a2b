"""Settings: overrides, validation, presets, and what a wrong value or key reports."""

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.core.tiny import tiny
from tui_lab.core.config import settings
from tui_lab.core.config.schema import Config
from tui_lab.core.training.task_factory import build_loader, build_task
from tui_lab.util.errors import ConfigError, Problem


def problems(*overrides: str) -> tuple[Problem, ...]:
    """The problems of a tiny config with `overrides`."""
    with pytest.raises(ConfigError) as caught:
        tiny(*overrides)
    return caught.value.problems


@pytest.mark.parametrize(
    ("override", "code", "key", "value"),
    [
        ("optim.lr", "invalid", "--set", "optim.lr"),
        ("optim.lr=fast", "wrong_type", "optim.lr", "fast"),
        ("train.steps=1.5", "wrong_type", "train.steps", 1.5),
        ("train.steps=many", "wrong_type", "train.steps", "many"),
        ("data.path=3", "wrong_type", "data.path", 3),
        ("optim.betas=3", "wrong_type", "optim.betas", 3),
        ("optim.lr=-1", "invalid", "optim.lr", -1),
        ("optim.betas=[0.9,1.0]", "invalid", "optim.betas", [0.9, 1.0]),
        ("model.dropout=1.5", "invalid", "model.dropout", 1.5),
        ("optim.name=adma", "unknown_name", "optim.name", "adma"),
        ("model.context=4", "conflict", "model.context", 4),
        ("data.tokenizer=gpt2", "conflict", "data.tokenizer", "gpt2"),
        ("data.task=text", "conflict", "data.tokenizer", "digits"),
        ("data.vocab=seen", "conflict", "data.vocab", "seen"),
        ("train.accumulate=5", "conflict", "train.accumulate", 5),
        ('faults=["dropout_in_eval"]', "conflict", "faults", "dropout_in_eval"),
    ],
)
def test_wrong_value_is_reported_with_its_key(override: str, code: str, key: str, value: object) -> None:
    [problem] = problems(override)
    assert (problem.code, problem.key, problem.value) == (code, key, value)


@pytest.mark.parametrize(
    ("override", "key", "suggestion"),
    [("optim.lrr=1", "optim.lrr", "optim.lr"), ("lr=1", "lr", "optim.lr"), ("zzzzzzz=1", "zzzzzzz", "")],
)
def test_unknown_key_suggests_the_nearest(override: str, key: str, suggestion: str) -> None:
    [problem] = problems(override)
    assert (problem.code, problem.key, problem.suggestion) == ("unknown_key", key, suggestion)


def test_unknown_choice_lists_the_choices_and_suggests_the_nearest() -> None:
    [problem] = problems("optim.name=adma")
    assert problem.allowed == "sgd, momentum, adam, adamw, muon" and problem.suggestion == "adam"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.steps=x", "must be a whole number"),
        ("optim.lr=nan", "must be finite"),
        ("optim.lr=-1", "must be at least 0"),
        ("train.batch_size=9999999999", "must be at most 1048576"),
        ("optim.betas=[1,2,3]", "must have at most 2 values"),
        ('data.path=""', "must not be empty"),
    ],
)
def test_messages_of_pydantic_are_translated(override: str, message: str) -> None:
    [problem] = problems(override)
    assert problem.message == message


def test_all_problems_are_reported_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        settings.build({"optim": {"lrr": 1, "lr": -1}, "modle": {}})
    assert {(problem.key, problem.suggestion) for problem in caught.value.problems} == {
        ("optim.lrr", "optim.lr"),
        ("optim.lr", ""),
        ("modle", "model"),
    }


@pytest.mark.parametrize(("context", "fits"), [(4, False), (5, True), (500, True)])
def test_d_head_times_n_heads_may_differ_from_d_model_and_context_must_be_long_enough(context: int, fits: bool) -> None:
    overrides = ("model.d_model=7", "model.n_heads=3", "model.d_head=11", f"model.context={context}")
    if fits:
        assert tiny(*overrides).model.context == context
    else:
        with pytest.raises(ConfigError):
            tiny(*overrides)


def test_unknown_preset_suggests_the_nearest() -> None:
    with pytest.raises(ConfigError) as caught:
        settings.load("revers")
    [problem] = caught.value.problems
    assert (problem.code, problem.value, problem.suggestion) == ("unknown_name", "revers", "reverse")


@pytest.mark.parametrize("content", [b"model = ", b"\xff\xfe", b"[model]\n[model]\n"])
def test_file_that_is_not_toml_is_an_error(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        settings.load(str(file))
    assert (caught.value.code, caught.value.problems[0].key) == ("unreadable", str(file))


@pytest.mark.parametrize("tables", [{"model": 3}, {"model": [1]}])
def test_section_that_is_not_a_table_is_an_error(tables: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        settings.build(tables, ["model.context=9"])
    assert (caught.value.code, caught.value.problems[0].key) == ("wrong_type", "model")


@given(
    lr=st.floats(0, 100),
    dropout=st.floats(0, 1),
    betas=st.tuples(st.floats(0, 1, exclude_max=True), st.floats(0, 1, exclude_max=True)),
    path=st.text(st.characters(codec="utf-8", exclude_characters="\x7f"), min_size=1),
)
def test_toml_round_trips(lr: float, dropout: float, betas: tuple[float, float], path: str) -> None:
    config = settings.build(
        {"model": {"dropout": dropout}, "data": {"path": path}, "optim": {"lr": lr, "betas": list(betas)}}
    )
    assert settings.build(tomllib.loads(settings.to_toml(config))) == config


@pytest.mark.parametrize(
    ("text", "value"), [("3", 3), ("3e-4", 3e-4), ("[0.9, 0.99]", [0.9, 0.99]), ("adam", "adam"), ('"a b"', "a b")]
)
def test_override_value_is_toml_or_a_bare_word(text: str, value: object) -> None:
    assert settings.parse_value(text) == value


def test_every_field_has_what_a_form_needs() -> None:
    for key, field in settings.fields().items():
        extra = field.json_schema_extra
        assert field.title and field.description and field.description.endswith("."), key
        assert isinstance(extra, dict) and {"unit", "live"} <= extra.keys(), key
        assert settings.get(Config(), key) == field.default


def test_whether_an_unknown_setting_is_live_is_an_error() -> None:
    assert settings.is_live("optim.lr") and not settings.is_live("model.d_model")
    with pytest.raises(ConfigError) as caught:
        settings.is_live("optim.lrr")
    assert caught.value.problems[0].suggestion == "optim.lr"


def test_config_is_frozen_and_changed_copies_it() -> None:
    config = tiny()
    assert settings.changed(config, "optim.lr", 0.5).optim.lr == 0.5
    assert config.optim.lr == 0.01
    with pytest.raises(ValidationError):
        config.optim.lr = 1.0  # type: ignore[misc]


@pytest.mark.parametrize("name", settings.presets())
def test_preset_fits_its_data_and_has_command_time_and_result(name: str) -> None:
    config = settings.load(name)
    build_loader(config, build_task(config))
    header = {line.partition(":")[0]: line.partition(":")[2] for line in settings.presets()[name].header[1:]}
    assert header["command"].split()[:3] == ["tui-lab", "run", name]
    assert header["time"].strip() and header["result"].strip()


def test_options_of_a_task_stand_with_the_data() -> None:
    config = tiny().model_copy(update={"data": tiny().data.model_copy(update={"options": {"digits": 2}})})
    keys = settings.keys_of(config)
    assert keys[keys.index("data.options.digits") - 1].startswith("data.")
    assert keys[keys.index("data.options.digits") + 1].startswith("optim.")
    assert [key for key in keys if key in settings.fields()] == list(settings.fields())

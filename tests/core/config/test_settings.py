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
from tui_lab.util.errors import ConfigError


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("optim.lrr=1", ["optim.lrr: unknown key", "did you mean optim.lr?"]),
        ("lr=1", ["lr: unknown key", "did you mean optim.lr?"]),
        ("optim.lr", ["'optim.lr'", "KEY=VALUE"]),
        ("optim.lr=fast", ["optim.lr = 'fast'", "must be a valid number"]),
        ("optim.lr=-1", ["optim.lr = -1", "must be greater than or equal to 0"]),
        ("optim.lr=nan", ["optim.lr = nan", "finite"]),
        ("optim.name=adma", ["optim.name = 'adma'", "'sgd', 'momentum', 'adam'", "did you mean adam?"]),
        ("optim.betas=[0.9,1.0]", ["optim.betas = [0.9, 1.0]", "less than 1"]),
        ("model.dropout=1.5", ["model.dropout = 1.5", "less than or equal to 1"]),
        ("model.context=4", ["model.context = 4", "data.length = 3", "2 × 3 - 1 = 5"]),
        ("data.tokenizer=gpt2", ["data.tokenizer = 'gpt2'", "'reverse' allows digits"]),
        ("data.task=text", ["data.tokenizer = 'digits'", "'text' allows gpt2, char"]),
        ("data.vocab=seen", ["data.vocab = 'seen'", "only 'full' is allowed"]),
        ("train.accumulate=5", ["train.accumulate = 5", "at most train.batch_size = 4"]),
    ],
)
def test_a_wrong_setting_names_key_value_and_what_is_allowed(override: str, words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        tiny(override)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_every_problem_is_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        settings.build({"optim": {"lrr": 1, "lr": -1}, "modle": {}})
    told = str(caught.value)
    assert len(caught.value.problems) == 3
    assert "optim.lr?" in told and "optim.lr = -1" in told and "did you mean model?" in told


@pytest.mark.parametrize(("context", "fits"), [(4, False), (5, True), (500, True)])
def test_d_head_times_heads_is_free_of_d_model_and_context_need_only_be_long_enough(context: int, fits: bool) -> None:
    overrides = ("model.d_model=7", "model.n_heads=3", "model.d_head=11", f"model.context={context}")
    if fits:
        assert tiny(*overrides).model.context == context
    else:
        with pytest.raises(ConfigError):
            tiny(*overrides)


def test_a_source_that_is_nothing_names_the_nearest_preset() -> None:
    with pytest.raises(ConfigError) as caught:
        settings.load("revers")
    [problem] = caught.value.problems
    assert (problem.code, problem.value, problem.suggestion) == ("unknown_name", "revers", "reverse")


@pytest.mark.parametrize("content", [b"model = ", b"\xff\xfe", b"[model]\n[model]\n"])
def test_a_file_that_is_no_toml_is_named(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=r"config\.toml: not readable as TOML"):
        settings.load(str(file))


@pytest.mark.parametrize("tables", [{"model": 3}, {"model": [1]}])
def test_a_section_that_is_no_table_is_an_error_too(tables: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="model = "):
        settings.build(tables, ["model.context=9"])


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
def test_a_value_is_read_as_toml_and_a_bare_word_as_a_string(text: str, value: object) -> None:
    assert settings.parse_value(text) == value


def test_every_field_says_what_a_form_needs() -> None:
    for key, field in settings.fields().items():
        extra = field.json_schema_extra
        assert field.title and field.description and field.description.endswith("."), key
        assert isinstance(extra, dict) and {"unit", "live"} <= extra.keys(), key
        assert settings.get(Config(), key) == field.default


def test_the_live_keys_are_those_of_the_contract() -> None:
    assert {key for key in settings.fields() if settings.is_live(key)} == {
        "model.dropout", "data.shuffle", "data.overfit", "optim.lr", "optim.weight_decay", "optim.grad_clip",
        "train.batch_size", "train.eval_every",
    }  # fmt: skip
    with pytest.raises(ConfigError, match="did you mean optim.lr?"):
        settings.is_live("optim.lrr")


def test_a_config_is_frozen_and_changed_leaves_the_old_one() -> None:
    config = tiny()
    assert settings.changed(config, "optim.lr", 0.5).optim.lr == 0.5
    assert config.optim.lr == 0.01
    with pytest.raises(ValidationError):
        config.optim.lr = 1.0  # type: ignore[misc]


@pytest.mark.parametrize("name", settings.presets())
def test_a_preset_fits_its_data_and_states_command_time_and_result(name: str) -> None:
    config = settings.load(name)
    build_loader(config, build_task(config))
    told = {line.partition(":")[0]: line.partition(":")[2] for line in settings.presets()[name].header[1:]}
    assert told["command"].split()[:3] == ["tui-lab", "run", name]
    assert told["time"].strip() and told["result"].strip()


def test_the_four_presets_are_there() -> None:
    assert {"reverse", "socrates", "pseudo-socrates", "overfit-one"} <= settings.presets().keys()

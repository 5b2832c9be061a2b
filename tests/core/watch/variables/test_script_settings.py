"""Settings are read from the variables of any script, and reading them never runs its code or raises."""

import argparse
import math
import time
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pydantic
import pytest
import torch
from hypothesis import given
from hypothesis import settings as limit
from hypothesis import strategies as st

from tui_lab.core.config.script import ScriptConfig, build, to_toml
from tui_lab.core.watch.variables.script_settings import HIDDEN, MAX_SETTINGS, MAX_TEXT, captured_settings, total_steps


@dataclass
class Inner:
    rate: float = 0.5


@dataclass
class Arguments:
    LIMIT = 7
    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.95)
    inner: Inner = field(default_factory=Inner)
    hidden_sizes: list[int] = field(default_factory=lambda: [1, 2])

    @property
    def device(self) -> str:
        raise AssertionError("a property must not be read")


@dataclass(slots=True)
class Slotted:
    depth: int = 3


class Model(pydantic.BaseModel):
    width: int = 4
    inner: Inner = Inner()


class CfgNode:
    """As minGPT's: attributes, and nodes in nodes."""

    def __init__(self, **values: Any) -> None:
        self.__dict__.update(values)

    def __getattr__(self, name: str) -> Any:
        raise AssertionError("an attribute must not be looked up")


class Loaded(Mapping[str, Any]):
    """As omegaconf's DictConfig: nodes that hold the values."""

    def __init__(self, **values: Any) -> None:
        self._content = values

    def __getitem__(self, key: str) -> Any:
        raise AssertionError("an interpolation must not be resolved")

    def __iter__(self) -> Iterator[str]:
        raise AssertionError

    def __len__(self) -> int:
        raise AssertionError


class TestVariables:
    def test_simple_variables_are_settings(self) -> None:
        variables = {"lr": 0.1, "n": 3, "BATCH": 8, "compile": True, "out": "x", "_private": 1, "math": math, "f": len}
        assert captured_settings([variables]) == {"lr": 0.1, "n": 3, "BATCH": 8, "compile": True, "out": "x"}

    def test_first_namespace_has_precedence(self) -> None:
        assert captured_settings([{"lr": 1}, {"lr": 2, "k": 3}]) == {"lr": 1, "k": 3}

    def test_values_that_a_config_file_cannot_hold_become_text(self) -> None:
        variables = {"a": math.inf, "b": math.nan, "c": 2**63, "d": 10**5000, "e": "x" * 500, "f": "\ud800"}
        settings = captured_settings([variables])
        assert settings["a"] == "inf" and settings["b"] == "nan" and settings["c"] == str(2**63)
        assert isinstance(settings["d"], str) and len(str(settings["e"])) == MAX_TEXT and settings["f"] == "?"

    def test_a_corpus_in_a_variable_is_not_a_setting(self) -> None:
        assert captured_settings([{"text": "x" * 10**6}]) == {}

    def test_loop_counters_are_not_settings(self) -> None:
        assert captured_settings([{"i": 3, "iter_num": 4, "t0": 0.5, "seed": 1}]) == {"seed": 1}

    def test_readings_of_the_clock_are_not_settings(self) -> None:
        assert captured_settings([{"epoch_start_time": time.time(), "year": 2026.0}]) == {"year": 2026.0}

    def test_values_of_numpy_torch_and_pathlib(self) -> None:
        variables = {
            "a": np.float32(0.5),
            "b": np.int64(3),
            "c": torch.bfloat16,
            "d": torch.device("cpu"),
            "e": Path("x"),
        }
        assert captured_settings([variables]) == {"a": 0.5, "b": 3, "c": "torch.bfloat16", "d": "cpu", "e": "x"}

    def test_number_of_settings_is_limited(self) -> None:
        variables = {f"v{i}": i for i in range(1000)}
        assert len(captured_settings([variables, {"config": variables}])) == MAX_SETTINGS


class TestObjects:
    def test_parsed_arguments_are_settings_under_any_name(self) -> None:
        assert captured_settings([{"parsed": argparse.Namespace(lr=0.1, tag=None)}]) == {"parsed.lr": 0.1}

    def test_fields_of_dataclasses_have_dotted_names(self) -> None:
        assert captured_settings([{"a": Arguments(), "s": Slotted()}]) == {
            "a.lr": 1e-3,
            "a.betas": "(0.9, 0.95)",
            "a.hidden_sizes": "(1, 2)",
            "a.inner.rate": 0.5,
            "s.depth": 3,
        }

    def test_pydantic_models(self) -> None:
        assert captured_settings([{"m": Model()}]) == {"m.width": 4, "m.inner.rate": 0.5}

    @pytest.mark.parametrize("name", ["config", "cfg", "args", "hparams", "params", "opt", "CFG", "model_config"])
    @pytest.mark.parametrize(
        "kind", [dict, SimpleNamespace, CfgNode, Loaded, lambda **values: type("Config", (), values)]
    )
    def test_objects_named_as_configs(self, name: str, kind: Any) -> None:
        config = kind(lr=0.1, model=kind(width=4) if isinstance(kind, type) else {"width": 4})
        assert captured_settings([{name: config}]) == {f"{name}.lr": 0.1, f"{name}.model.width": 4}

    def test_objects_with_other_names_are_left_alone(self) -> None:
        assert captured_settings([{"batch": {"lr": 1}, "node": CfgNode(lr=1)}]) == {}

    def test_nodes_are_unwrapped(self) -> None:
        assert captured_settings([{"cfg": Loaded(lr=SimpleNamespace(_val=0.1))}]) == {"cfg.lr": 0.1}

    def test_config_of_a_trainer_class(self) -> None:
        trainer = SimpleNamespace(config=CfgNode(max_iters=9), lr=1)
        assert captured_settings([{"self": trainer}]) == {"config.max_iters": 9}

    def test_copy_of_a_variable_is_left_out(self) -> None:
        variables = {"lr": 0.1, "n": 1, "config": {"lr": 0.1, "n": True, "seed": 2}}
        assert captured_settings([variables]) == {"lr": 0.1, "n": 1, "config.n": True, "config.seed": 2}

    def test_optimizers_modules_and_tensors_are_not_configs(self) -> None:
        weight = torch.nn.Parameter(torch.ones(1))
        variables = {"opt": torch.optim.SGD([weight], lr=0.1), "args": torch.nn.Linear(1, 1), "params": weight}
        assert captured_settings([variables]) == {}

    def test_an_object_that_contains_itself(self) -> None:
        config: dict[str, Any] = {"lr": 1}
        config["config"] = config
        assert captured_settings([{"config": config}]) == {"config.lr": 1}

    def test_code_of_the_script_is_not_run(self) -> None:
        class Hostile:
            @property  # type: ignore[misc]
            def __class__(self) -> Any:
                raise RuntimeError

            def __getattribute__(self, name: str) -> Any:
                raise RuntimeError

            def __eq__(self, other: object) -> bool:
                raise RuntimeError

            __hash__ = None  # type: ignore[assignment]

        class Text(str):
            def __str__(self) -> str:
                raise RuntimeError

        hostile = Hostile()
        variables = {"config": hostile, "args": {"x": hostile, "y": 1}, "tag": Text("t"), "x": hostile}
        assert captured_settings([variables]) == {"args.y": 1, "tag": "t"}


class TestSecrets:
    @pytest.mark.parametrize(
        "name",
        ["password", "DB_PASSWORD", "secret", "client_secret", "api_key", "apiKey", "OPENAI_KEY", "hf_token", "token"]
        + ["credentials", "wandb-api-key", "push_to_hub_token"],
    )
    def test_secrets_are_hidden(self, name: str) -> None:
        assert captured_settings([{name: "abc"}]) == {name: HIDDEN}
        assert captured_settings([{"config": {name: "abc"}}]) == {f"config.{name}": HIDDEN}

    def test_fields_of_an_object_of_secrets_are_hidden(self) -> None:
        assert captured_settings([{"args": {"credentials": {"user": "me"}}}]) == {"args.credentials.user": HIDDEN}

    @pytest.mark.parametrize("value", ["hf_abcdefghijklmnop", "sk-abcdefghijklmnop", "https://me:pass@host/path"])
    def test_values_in_the_form_of_a_secret_are_hidden(self, value: str) -> None:
        assert captured_settings([{"x": value}]) == {"x": HIDDEN}

    def test_other_names_with_token_or_key_are_shown(self) -> None:
        settings: dict[str, Any] = {"max_tokens": 5, "eos_token": "<end>", "n_token": 3, "sort_key": "a", "keys": 2}
        settings |= {"use_secret": True, "author": "me", "tokenizer": "gpt2"}
        assert captured_settings([settings]) == settings


_LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9) | st.just(b"x") | st.just(object())
)
_NAMES = st.text(max_size=9) | st.sampled_from(["config", "args", "lr"])
_INNER = st.lists(_LEAVES, max_size=2) | st.dictionaries(_NAMES | st.integers(), _LEAVES, max_size=2)
_VALUES = _LEAVES | _INNER | st.dictionaries(_NAMES, _INNER, max_size=2)
"""As deep as settings are read, and small: Hypothesis refuses input that takes long to make."""


@limit(max_examples=15)
@given(st.lists(st.dictionaries(_NAMES, _VALUES, max_size=3), max_size=2))
def test_any_settings_can_be_written_and_read(namespaces: list[dict[str, Any]]) -> None:
    settings = captured_settings(namespaces)
    assert build(tomllib.loads(to_toml(ScriptConfig(settings=settings)))).settings == settings


class TestTotalSteps:
    @pytest.mark.parametrize("name", ["max_iters", "config.max_steps", "args.train.num_steps", "TOTAL_STEPS", "steps"])
    def test_known_names(self, name: str) -> None:
        assert total_steps({"lr": 1, name: 600_000}) == 600_000

    def test_names_that_only_contain_a_known_one(self) -> None:
        assert total_steps({"eval_steps": 10, "warmup_steps": 20, "stepsize": 3}) == 0

    def test_steps_of_an_environment(self) -> None:
        assert total_steps({"args.num_envs": 4, "args.num_steps": 128, "args.learning_rate": 2.5e-4}) == 0

    @pytest.mark.parametrize(
        ("others", "expected"),
        [({}, 30), ({"args.train_epochs": 4}, 120), ({"epochs": 4, "gradient_accumulation_steps": 2}, 0)],
    )
    def test_steps_of_an_epoch(self, others: dict[str, int], expected: int) -> None:
        assert total_steps({"train_steps": 30, **others}, {30, 7}) == expected
        assert total_steps({"train_steps": 31, **others}, {30, 7}) == 31

    @pytest.mark.parametrize("value", [-1, 0, 0.5, True, "100", 10**15])
    def test_implausible_values_are_skipped(self, value: Any) -> None:
        assert total_steps({"max_steps": value}) == 0
        assert total_steps({"max_steps": value, "steps": 1e5}) == 100_000

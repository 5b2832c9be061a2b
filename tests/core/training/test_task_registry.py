"""Tasks of plug-ins train like our own, and one that is wrong is refused with the name of its package."""

import tomllib
from pathlib import Path

import pytest

from tests.core.tiny import TABLES
from tests.plugin_packages import SUMS, Install
from tui_lab.core import events as ev
from tui_lab.core.config import settings
from tui_lab.core.config.schema import Config
from tui_lab.core.runs import folder as runs
from tui_lab.core.runs import open_run
from tui_lab.core.runs.folder import Run
from tui_lab.core.training.task_factory import build_task
from tui_lab.util import plugin_registry
from tui_lab.util.errors import ConfigError, DataError
from tui_lab.util.plugin_registry import PluginError


def sums(*overrides: str) -> Config:
    return settings.build({**TABLES, "data": {"task": "sums"}}, overrides)


def test_a_task_of_a_plugin_is_made_with_its_options(install: Install) -> None:
    install("lab-sums", "1.0", SUMS, tasks="sums = lab_sums:make")
    task = build_task(sums("data.options.modulus=5"))
    assert (task.name, task.tokenizer.n_vocab, task.train.length) == ("sums", 5, 3)


def test_a_run_of_a_plugin_s_task_trains_resumes_and_is_read_without_the_plugin(
    install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("lab-sums", "1.0", SUMS, tasks="sums = lab_sums:make")
    config = tmp_path / "config.toml"
    config.write_text(settings.to_toml(sums("data.options.modulus=5")), "utf-8")
    opened = open_run.start_from(str(config), ["train.steps=4"], tmp_path / "run")
    events = list(opened.run.record(opened.trainer.events()))
    opened.close()
    assert isinstance(events[-1], ev.Stopped) and events[-1].step == 4
    resumed = open_run.resume(str(tmp_path / "run"), steps=6)
    assert [event.step for event in resumed.run.record(resumed.trainer.events())][-1] == 6
    resumed.close()
    monkeypatch.setenv(plugin_registry.SWITCH, "off")
    run = Run(tmp_path / "run")
    config_of_run = run.config()
    assert isinstance(config_of_run, Config) and config_of_run.data.options == {"modulus": 5}
    assert runs.find(str(run.path)) == run and run.summary() is None and list(run.events())
    with pytest.raises(DataError) as raised:
        open_run.resume(str(run.path), steps=8)
    assert raised.value.code == "unknown_name" and raised.value.problems[0].key == "data.task"


def test_an_unknown_task_suggests_that_of_a_plugin(install: Install) -> None:
    install("lab-sums", "1.0", SUMS, tasks="sums = lab_sums:make")
    with pytest.raises(ConfigError) as raised:
        settings.build({"data": {"task": "sumz"}})
    [problem] = raised.value.problems
    assert (problem.key, problem.code, problem.suggestion) == ("data.task", "unknown_name", "sums")
    assert problem.allowed == "reverse, text, sums"


def test_our_own_tasks_have_no_options() -> None:
    with pytest.raises(ConfigError) as raised:
        settings.build(TABLES, ["data.options.modulus=5"])
    assert [(problem.key, problem.code) for problem in raised.value.problems] == [("data.options", "conflict")]


def test_options_are_settings_of_the_config() -> None:
    config = settings.build({**TABLES, "data": {"task": "sums", "options": {"modulus": 5}}}, any_plugin=True)
    changed = settings.changed(config, "data.options.modulus", 7)
    assert settings.differences(config, changed) == {"data.options.modulus": 7}
    assert settings.get(changed, "data.options.modulus") == 7 and "data.options.modulus" in settings.keys_of(config)
    assert settings.build(tomllib.loads(settings.to_toml(config)), any_plugin=True) == config


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("return Task(", "return dict(task=Task)  # (", "not a Task"),
        ("n_examples = 40", "n_examples = 0", "no training examples"),
        ("return x, y", "return x.astype('int32'), y", "x of 16 training examples is int32 [16, 3], not int64 [16, 3]"),
        ("return x, y", "return x, y[:, 1:]", "y of 16 training examples is int64 [16, 2], not int64 [16, 3]"),
        ("return x, y", "return x + 5, y", "x of the training examples holds"),
        ("return x, y", "return x, y - 1", "y of the training examples holds"),
        ("return x, y", "return x, y * 0 - 1", "all targets of the training examples are ignored"),
        ("return x, y", "return x", "the task cannot be made"),
        ('"exact_match"', '"accuracy"', "its metric is 'accuracy'"),
        ("def make(settings)", "def make()", "the task cannot be made"),
        ("DigitsTokenizer(n),", "Own(n),", "register its class under tui_lab.tokenizers"),
    ],
)
def test_a_wrong_task_is_refused_and_names_its_package(install: Install, old: str, new: str, named: str) -> None:
    assert old in SUMS
    install("lab-sums", "1.0", SUMS.replace(old, new), tasks="sums = lab_sums:make")
    with pytest.raises(PluginError) as raised:
        build_task(sums())
    assert named in str(raised.value) and "lab-sums 1.0" in str(raised.value)


def test_rows_longer_than_the_context_are_a_conflict(install: Install) -> None:
    install("lab-sums", "1.0", SUMS, tasks="sums = lab_sums:make")
    with pytest.raises(DataError) as raised:
        build_task(sums("model.context=2"))
    assert (raised.value.code, raised.value.problems[0].key) == ("conflict", "model.context")

"""Commands that look before training, and what starting the program imports."""

import json
import os
import tomllib
from pathlib import Path

import pytest

from tests.command_line import RunCli
from tests.process import TINY, Cli
from tui_lab.app.main import prepare
from tui_lab.core.config import settings
from tui_lab.core.config.schema import Config
from tui_lab.core.runs import folder as runs
from tui_lab.core.training.task_factory import build_loader, build_task


def test_help_and_listings_import_neither_torch_nor_textual(command: list[str], cli: Cli) -> None:
    code = """
import sys
from tui_lab.cli.main import app
for arguments in (["--help"], ["run", "--help"], ["runs", "ls"], ["presets"], ["bench", "-h"], ["--version"]):
    try:
        app(arguments, prog_name="tui-lab", standalone_mode=False)
    finally:
        print(arguments, sorted({"torch", "textual"} & sys.modules.keys()), file=sys.stderr)
"""
    command[1:] = ["-c", code]
    lines = cli().stderr.splitlines()
    assert len(lines) == 6 and all(line.endswith("[]") for line in lines), lines


def test_home_imports_neither_torch_nor_numpy(command: list[str], cli: Cli) -> None:
    code = "import sys, tui_lab.app.app; print(sorted({'torch', 'numpy'} & sys.modules.keys()))"
    command[1:] = ["-c", code]
    assert cli().stdout == "[]\n"


def test_the_app_sets_textual_s_environment_before_importing_it_unless_the_user_has(
    command: list[str], cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = """
from tui_lab.app.main import main
try:
    main("nothing of that name")
except Exception:
    pass
from textual import constants
print(constants.TEXTUAL_ANIMATIONS, constants.MAX_FPS)
"""
    command[1:] = ["-c", code]
    assert cli().stdout == "none 240\n"
    names = ("TEXTUAL_ANIMATIONS", "TEXTUAL_COLOR_SYSTEM")
    for name in names:
        monkeypatch.setenv(name, "mine")  # And restored after the test.
    monkeypatch.setenv("TEXTUAL_FPS", "30")
    prepare()
    assert [os.environ[name] for name in (*names, "TEXTUAL_FPS")] == ["mine", "mine", "30"]


@pytest.mark.parametrize("command_line", [[], ["run"], ["runs"], ["runs", "rm"], ["data", "fetch"], ["bench", "all"]])
def test_every_command_has_h(command_line: list[str], run_cli: RunCli) -> None:
    result = run_cli(*command_line, "-h")
    assert result.code == 0 and "Usage: tui-lab" in result.out
    assert run_cli(*command_line, "--help").out == result.out


def test_version_is_printed(run_cli: RunCli) -> None:
    assert run_cli("--version").out.startswith("tui-lab 0.")


def test_batch_shows_x_over_y_with_ignored_targets_marked(run_cli: RunCli) -> None:
    text = run_cli("batch", "reverse", "--step", "3").out
    assert "step 3: epoch 0" in text and "shuffle epoch, seed 0" in text
    rows = {line.split()[0]: line for line in text.splitlines() if line[:2] in ("t ", "x ", "y ")}
    assert list(rows) == ["t", "x", "y"] and "ignored by the loss (5 of 11)" in text
    cells = {name: line.split()[1:] for name, line in rows.items()}
    assert cells["y"] == ["-1"] * 5 + cells["x"][:6][::-1]
    assert [rows["x"].index(f" {digit}") for digit in cells["x"][:1]] == [rows["t"].index(" 0")]


def test_order_that_starts_with_the_examples_is_not_repeated(run_cli: RunCli) -> None:
    first, second = (run_cli("batch", "reverse", "--step", step).out for step in (1, 2))
    assert "starts with these examples" in first and "starts with 109,088" in second


def test_batch_as_json_is_what_training_sees(run_cli: RunCli) -> None:
    batch = json.loads(run_cli("batch", "socrates", "--step", "2", "--json").out)
    config = settings.load("socrates")
    expected = build_loader(config, build_task(config)).batch(1)  # The loader counts from 0.
    assert batch["step"] == 2 and batch["ids"] == expected.ids.tolist() and len(batch["ids"]) == len(batch["x"]) == 16
    assert all(y[:-1] == x[1:] for x, y in zip(batch["x"], batch["y"], strict=True))
    assert "".join(batch["tokens"][0])


def test_config_show_counts_parameters_and_prints_a_config_file(run_cli: RunCli) -> None:
    text = run_cli("config", "show", "pseudo-socrates").out
    assert "17,696,177" in text and "W_E" in text
    assert settings.build(tomllib.loads(text)) == settings.load("pseudo-socrates")
    values = json.loads(run_cli("config", "show", "pseudo-socrates", "--json").out)
    assert values["parameters"]["total"] == 17_696_177


def test_config_schema_and_validate(run_cli: RunCli, tmp_path: Path) -> None:
    assert json.loads(run_cli("config", "schema").out) == Config.model_json_schema()
    (tmp_path / "mine.toml").write_text("[optim]\nlr = 0.5\n[model]\ncontext = 16\n", "utf-8")
    assert run_cli("config", "validate", "mine.toml").out == "mine.toml: valid\n"
    (tmp_path / "mine.toml").write_text("[optim]\nlr = -1\n[model]\nwidth = 3\n", "utf-8")
    invalid = run_cli("config", "validate", "mine.toml")
    assert invalid.code == 2 and len(invalid.err.splitlines()) == 2


@pytest.mark.parametrize("source", ["reverse", "socrates"])
def test_data_info_shows_sizes(source: str, run_cli: RunCli) -> None:
    sizes = json.loads(run_cli("data", "info", source, "--json").out)
    assert sizes["n_vocab"] > 1 and sizes["train_examples"] > sizes["validation_examples"] > 0
    assert "steps per epoch" in run_cli("data", "info", source).out


def test_presets_are_listed_with_their_commands(run_cli: RunCli) -> None:
    text = run_cli("presets").out
    assert all(f"tui-lab run {name}" in text for name in settings.presets())
    assert all(f"tui-lab sweep {name}" in text for name in settings.sweep_presets())
    both = settings.presets() | settings.sweep_presets()
    assert json.loads(run_cli("presets", "--json").out).keys() == both.keys()


def test_runs_are_listed_and_shown(run_cli: RunCli) -> None:
    assert "no runs in" in run_cli("runs", "ls").out
    run_cli("run", "reverse", *TINY, "--steps", "2", "--quiet")
    [row] = json.loads(run_cli("runs", "ls", "--json").out)
    name = Path(row["run"]).name
    assert name in run_cli("runs", "ls").out and (runs.runs_folder() / name).is_dir()
    assert json.loads(run_cli("runs", "show", name, "--json").out)["config"]["train"]["steps"] == 2
    assert "exact match" in run_cli("runs", "show", name).out


def test_generate_streams_the_same_text_for_a_seed(run_cli: RunCli) -> None:
    run_cli("run", "reverse", *TINY, "--steps", "2", "--quiet", "--out", "r")
    generate = ("generate", "r", "--prompt", "123", "--max-new-tokens", "2")
    first, second = (run_cli(*generate).out for _ in range(2))
    assert first == second and first.startswith("123") and len(first) == len("12345\n")
    answer = run_cli(*generate[:-2])
    assert len(answer.out) == len("123321\n"), "an answer has as many tokens as the prompt"
    assert "✗ expected 321" in answer.err or "✓ right" in answer.err
    lines = [json.loads(line) for line in run_cli(*generate, "--json").out.splitlines()]
    assert [line["event"] for line in lines] == ["token", "token", "text"]
    assert "123" + lines[-1]["text"] == first.strip()
    not_digits = run_cli("generate", "r", "--prompt", "12x")
    assert not_digits.code == 2 and "'x'" in not_digits.err and not not_digits.out

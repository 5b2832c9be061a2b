import json
import tomllib
from pathlib import Path

import pytest

from tests.process import TINY, Cli
from tui_lab.core.config import settings
from tui_lab.core.config.schema import Config


def test_help_and_bad_usage_wait_neither_for_torch_nor_for_textual(command: list[str], cli: Cli) -> None:
    command[1:] = ["-c", "import sys; sys.argv[0] = 'tui-lab'\nfrom tui_lab.cli.main import main\ntry: main()\n"
                   "finally: print(sorted({'torch', 'textual'} & sys.modules.keys()))"]  # fmt: skip
    for arguments in (["--help"], ["run", "--help"], ["runs", "ls"], ["presets"]):
        assert cli(*arguments).stdout.splitlines()[-1] == "[]", arguments


def test_the_chooser_waits_neither_for_torch_nor_for_numpy(command: list[str], cli: Cli) -> None:
    code = "import sys, tui_lab.app.app; print(sorted({'torch', 'numpy'} & sys.modules.keys()))"
    command[1:] = ["-c", code]
    assert cli().stdout == "[]\n"


def test_the_app_settles_how_textual_paints_before_it_looks(
    command: list[str], cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    command[1:] = ["-c", "from tui_lab.app.main import main\ntry: main('nothing of that name')\n"
                    "except Exception: pass\n"
                   "from textual import constants\nprint(constants.TEXTUAL_ANIMATIONS, constants.MAX_FPS)"]  # fmt: skip
    assert cli().stdout == "none 240\n"
    monkeypatch.setenv("TEXTUAL_FPS", "30")
    assert cli().stdout == "none 30\n"


def test_batch_shows_x_over_y_with_ignored_targets_marked(cli: Cli) -> None:
    shown = cli("batch", "reverse", "--step", "3").stdout
    assert "step 3: epoch 0" in shown and "order epoch, seed 0, begins" in shown
    rows = [line.split("│")[1:-1] for line in shown.splitlines() if line.startswith("│")]
    cells = [[cell.strip() for cell in row] for row in rows]
    digits = [row[1] for row in cells[:6]]
    assert [row[3] for row in cells] == ["-1"] * 5 + digits[::-1]
    assert [row[5] for row in cells] == ["ignored by the loss"] * 5 + [""] * 6


def test_batch_as_json_is_what_training_sees(cli: Cli) -> None:
    shown = json.loads(cli("batch", "socrates", "--step", "2", "--json").stdout)
    assert shown["step"] == 2 and len(shown["ids"]) == len(shown["x"]) == 16
    assert all(y[:-1] == x[1:] for x, y in zip(shown["x"], shown["y"], strict=True))
    assert "".join(shown["tokens"][0])


def test_config_show_counts_parameters_and_its_toml_can_be_used_again(cli: Cli, tmp_path: Path) -> None:
    shown = cli("config", "show", "pseudo-socrates").stdout
    assert "17,696,177" in shown and "W_E" in shown
    table = shown[: shown.index("Parameters")]
    assert settings.build(tomllib.loads(table)) == settings.load("pseudo-socrates")
    assert json.loads(cli("config", "show", "pseudo-socrates", "--json").stdout)["parameters"]["total"] == 17_696_177


def test_config_schema_and_validate(cli: Cli, tmp_path: Path) -> None:
    assert json.loads(cli("config", "schema").stdout) == Config.model_json_schema()
    (tmp_path / "mine.toml").write_text("[optim]\nlr = 0.5\n[model]\ncontext = 16\n", "utf-8")
    assert cli("config", "validate", "mine.toml").stdout == "mine.toml: valid\n"
    (tmp_path / "mine.toml").write_text("[optim]\nlr = -1\n[model]\nwidth = 3\n", "utf-8")
    wrong = cli("config", "validate", "mine.toml")
    assert wrong.returncode == 2 and len(wrong.stderr.splitlines()) == 2


@pytest.mark.parametrize("source", ["reverse", "socrates"])
def test_data_info_tells_sizes(source: str, cli: Cli) -> None:
    shown = json.loads(cli("data", "info", source, "--json").stdout)
    assert shown["n_vocab"] > 1 and shown["train_examples"] > shown["validation_examples"] > 0
    assert "steps an epoch" in cli("data", "info", source).stdout


def test_presets_are_listed_with_their_commands(cli: Cli) -> None:
    shown = cli("presets").stdout
    assert all(f"tui-lab run {name}" in shown for name in settings.presets())
    both = settings.presets() | settings.sweep_presets()
    assert json.loads(cli("presets", "--json").stdout).keys() == both.keys()


def test_runs_are_listed_and_shown(cli: Cli) -> None:
    assert "no runs in" in cli("runs", "ls").stdout
    cli("run", "reverse", *TINY, "--steps", "2", "--quiet")
    [listed] = json.loads(cli("runs", "ls", "--json").stdout)
    name = Path(listed["run"]).name
    assert name in cli("runs", "ls").stdout
    assert json.loads(cli("runs", "show", name, "--json").stdout)["config"]["train"]["steps"] == 2
    assert "exact match" in cli("runs", "show", name).stdout


def test_generate_streams_the_same_text_for_a_seed(cli: Cli) -> None:
    cli("run", "reverse", *TINY, "--steps", "2", "--quiet", "--out", "r")
    first, again = (cli("generate", "r", "--prompt", "123", "--max-new-tokens", "2").stdout for _ in range(2))
    assert first == again and first.startswith("123") and len(first) == len("12345\n")
    lines = cli("generate", "r", "--prompt", "123", "--max-new-tokens", "2", "--json").stdout.splitlines()
    assert [json.loads(line)["event"] for line in lines] == ["token", "token", "text"]
    assert "123" + json.loads(lines[-1])["text"] == first.strip()
    wrong = cli("generate", "r", "--prompt", "12x")
    assert wrong.returncode == 2 and "'x'" in wrong.stderr

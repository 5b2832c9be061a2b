"""Shell completion, requested as shells do: through typer's environment variables, and by bash itself."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import settings as limit
from hypothesis import strategies as st

from tests.command_line import RunCli
from tests.core.tiny import tiny
from tui_lab.cli import completion
from tui_lab.cli.completion import join_settings
from tui_lab.core.config import settings
from tui_lab.core.config.schema import OptimConfig
from tui_lab.core.runs import folder as runs

PROGRAM = "import sys; sys.argv[0] = 'tui-lab'; from tui_lab.cli.main import main; main()"
OPTIMIZERS = list(get_args(OptimConfig.model_fields["name"].annotation))
Complete = Callable[..., list[str]]


def completions(folder: Path, variables: dict[str, str], program: str = PROGRAM) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout.split("\n")[:-1]


@pytest.fixture
def bash(run_cli: RunCli, monkeypatch: pytest.MonkeyPatch) -> Complete:
    """Completions in bash; the last word is the one at the cursor."""

    def complete(*words: str) -> list[str]:
        line = {"COMP_WORDS": " ".join(["tui-lab", *words]), "COMP_CWORD": str(len(words))}
        for name, value in {"_TUI_LAB_COMPLETE": "complete_bash", **line}.items():
            monkeypatch.setenv(name, value)
        return run_cli().out.split("\n")[:-1]

    return complete


def test_bash_completes_presets_files_and_settings(bash: Complete, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(settings.to_toml(tiny()), "utf-8")
    assert bash("run", "re") == ["reverse"]
    assert bash("run", "mi") == ["mine.toml"]
    for command in ("run", "app"):
        assert bash(command, "reverse", "--set", "optim.na") == [f"optim.name={name}" for name in OPTIMIZERS]
    # readline splits optim.name=ad at the equals sign.
    assert bash("run", "reverse", "--set", "optim.name", "=", "ad") == ["adam", "adamw"]


def test_completion_does_not_import_torch(tmp_path: Path) -> None:
    watched = f"import atexit, sys; atexit.register(lambda: print('torch' in sys.modules)); {PROGRAM}"
    line = {"COMP_WORDS": "tui-lab run reverse --set optim.name = m", "COMP_CWORD": "6"}
    lines = completions(tmp_path, {"_TUI_LAB_COMPLETE": "complete_bash", **line}, watched)
    assert lines == ["momentum", "muon", "False"]


def test_zsh_completes_with_help(tmp_path: Path) -> None:
    line = {"_TUI_LAB_COMPLETE": "complete_zsh", "_TYPER_COMPLETE_ARGS": "tui-lab run reverse --set train.thr"}
    assert '"train.threads=0":"Threads"' in "\n".join(completions(tmp_path, line))


def test_the_installed_script_works_in_bash(tmp_path: Path) -> None:
    """With a home of its own; bash calls the installed function as readline would."""
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "tui-lab"
    program.write_text(f"#!{sys.executable}\n{PROGRAM}\n", "utf-8")
    program.chmod(0o755)
    environment = {
        **os.environ,
        "HOME": str(tmp_path),
        "PATH": f"{program.parent}:{os.environ['PATH']}",
        "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1",
    }
    install = [str(program), "--install-completion", "bash"]
    done = subprocess.run(install, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "bash completion installed" in done.stdout, done.stderr
    script = (
        "source ~/.bashrc; COMP_WORDS=(tui-lab run reverse --set data.shuffle = o); COMP_CWORD=6;"
        '_tui_lab_completion tui-lab o =; echo "${COMPREPLY[@]}"'
    )
    bash = subprocess.run(
        ["bash", "--norc", "-c", script], env=environment, capture_output=True, text=True, check=False
    )
    assert bash.stdout == "once off\n", bash.stderr


def words(items: completion.Items) -> list[str]:
    return [value for value, _ in items]


def test_a_setting_is_completed_key_then_value() -> None:
    assert words(completion.setting("optim.")) == [f"{key}=" for key in settings.fields() if key.startswith("optim.")]
    assert words(completion.setting("optim.lr")) == ["optim.lr=", "optim.lr=0.001"]
    assert words(completion.setting("optim.lr=0.5")) == []
    assert words(completion.setting("data.shuffle=o")) == ["data.shuffle=once", "data.shuffle=off"]
    assert words(completion.setting("nothing.here=")) == words(completion.setting("zzz")) == []


@limit(max_examples=8)
@given(st.text(max_size=12))
def test_every_completion_starts_with_the_typed_text(text: str) -> None:
    for complete in (completion.setting, completion.requirement, completion.source):
        assert all(value.startswith(text) for value in words(completion.without_errors(complete)(text)))


def test_every_completed_value_is_allowed() -> None:
    values = [value for key in settings.fields() for value in words(completion.setting(f"{key}="))]
    assert len(values) > 50
    for value in values:
        if not value.endswith("=") and not value.startswith(("data.task=", "data.tokenizer=", "data.vocab=")):
            settings.load("reverse", [value])


def test_runs_are_completed_by_name_and_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tui_lab.core.training.task_factory import build_task

    monkeypatch.chdir(tmp_path)
    task = build_task(tiny())
    runs.create("first", tiny(), task.tokenizer, runs.runs_folder() / "first")
    runs.create("second", tiny(), task.tokenizer, tmp_path / "elsewhere" / "second")
    assert words(completion.run("fi")) == ["first"]
    assert words(completion.run("else")) == ["elsewhere/"]
    assert words(completion.run("elsewhere/")) == ["elsewhere/second"]
    assert words(completion.run(f"{tmp_path}/elsewhere/s")) == [f"{tmp_path}/elsewhere/second"]


def test_an_error_gives_no_completions() -> None:
    def broken(incomplete: str) -> completion.Items:
        raise OSError

    assert completion.without_errors(broken)("x") == []


@pytest.mark.parametrize(
    ("given_words", "current", "expected"),
    [
        (["tui-lab", "run", "--set", "a", "=", "b"], 5, ["tui-lab", "run", "--set", "a=b"]),
        (["tui-lab", "run", "--set", "a", "="], 4, ["tui-lab", "run", "--set", "a="]),
        (["tui-lab", "run"], 2, ["tui-lab", "run", ""]),
        (["tui-lab", "--set", "a", "=", "b", "--se", "x"], 5, ["tui-lab", "--set", "a=b", "--se"]),
    ],
)
def test_settings_are_joined_again(given_words: list[str], current: int, expected: list[str]) -> None:
    assert join_settings(given_words, current) == expected

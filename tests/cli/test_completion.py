"""What the shell is offered after Tab, asked as the shell asks: through typer's environment variables, and by bash."""

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

from tests.core.tiny import tiny
from tui_lab.cli import completion
from tui_lab.cli.completion import joined
from tui_lab.core.config import settings
from tui_lab.core.config.schema import OptimConfig
from tui_lab.core.runs import folder as runs

PROGRAM = "import sys; sys.argv[0] = 'tui-lab'; from tui_lab.cli.main import main; main()"
OPTIMIZERS = list(get_args(OptimConfig.model_fields["name"].annotation))
Ask = Callable[..., list[str]]


def asked(folder: Path, variables: dict[str, str], program: str = PROGRAM) -> list[str]:
    done = subprocess.run([sys.executable, "-c", program], cwd=folder, env={**os.environ, **variables},
                          capture_output=True, text=True, check=False)  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout.split("\n")[:-1]


@pytest.fixture
def bash(tmp_path: Path) -> Ask:
    """What bash is offered; the last word is the one that stands at the cursor."""

    def ask(*words: str) -> list[str]:
        line = {"COMP_WORDS": " ".join(["tui-lab", *words]), "COMP_CWORD": str(len(words))}
        return asked(tmp_path, {"_TUI_LAB_COMPLETE": "complete_bash", **line})

    return ask


def test_bash_is_offered_presets_files_and_settings(bash: Ask, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(settings.to_toml(tiny()), "utf-8")
    assert bash("run", "re") == ["reverse"]
    assert bash("run", "mi") == ["mine.toml"]
    for command in ("run", "app"):
        assert bash(command, "reverse", "--set", "optim.na") == [f"optim.name={name}" for name in OPTIMIZERS]
    # As readline hands over optim.name=ad: it cuts words at the equals sign.
    assert bash("run", "reverse", "--set", "optim.name", "=", "ad") == ["adam", "adamw"]


def test_no_torch_is_imported_to_complete(tmp_path: Path) -> None:
    watched = f"import atexit, sys; atexit.register(lambda: print('torch' in sys.modules)); {PROGRAM}"
    line = {"COMP_WORDS": "tui-lab run reverse --set optim.name = m", "COMP_CWORD": "6"}
    found = asked(tmp_path, {"_TUI_LAB_COMPLETE": "complete_bash", **line}, watched)
    assert found == ["momentum", "muon", "False"]


def test_zsh_is_offered_words_with_their_help(tmp_path: Path) -> None:
    line = {"_TUI_LAB_COMPLETE": "complete_zsh", "_TYPER_COMPLETE_ARGS": "tui-lab run reverse --set train.thr"}
    assert '"train.threads=0":"Threads"' in "\n".join(asked(tmp_path, line))


def test_the_script_installs_and_bash_itself_completes_by_it(tmp_path: Path) -> None:
    """In a home of its own; bash runs the installed function as readline would."""
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "tui-lab"
    program.write_text(f"#!{sys.executable}\n{PROGRAM}\n", "utf-8")
    program.chmod(0o755)
    here = {**os.environ, "HOME": str(tmp_path), "PATH": f"{program.parent}:{os.environ['PATH']}",
            "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}  # fmt: skip
    done = subprocess.run([str(program), "--install-completion", "bash"], env=here, capture_output=True, text=True,
                          check=False)  # fmt: skip
    assert done.returncode == 0 and "bash completion installed" in done.stdout, done.stderr
    script = (
        "source ~/.bashrc; COMP_WORDS=(tui-lab run reverse --set data.shuffle = o); COMP_CWORD=6;"
        '_tui_lab_completion tui-lab o =; echo "${COMPREPLY[@]}"'
    )
    said = subprocess.run(["bash", "--norc", "-c", script], env=here, capture_output=True, text=True, check=False)
    assert said.stdout == "once off\n", said.stderr


def words(items: completion.Items) -> list[str]:
    return [value for value, _ in items]


def test_a_setting_is_completed_key_then_value() -> None:
    assert words(completion.setting("optim.")) == [f"{key}=" for key in settings.fields() if key.startswith("optim.")]
    assert words(completion.setting("optim.lr")) == ["optim.lr=", "optim.lr=0.001"]
    assert words(completion.setting("optim.lr=0.5")) == []
    assert words(completion.setting("data.shuffle=o")) == ["data.shuffle=once", "data.shuffle=off"]
    assert words(completion.setting("nothing.here=")) == words(completion.setting("zzz")) == []


@limit(max_examples=20)
@given(st.text(max_size=12))
def test_whatever_is_typed_each_offer_begins_with_it(text: str) -> None:
    for offer in (completion.setting, completion.requirement, completion.source):
        assert all(value.startswith(text) for value in words(completion.without_errors(offer)(text)))


@pytest.mark.parametrize("key", list(settings.fields()))
def test_every_value_offered_is_allowed(key: str) -> None:
    for value in words(completion.setting(f"{key}=")):
        if not value.endswith("=") and not value.startswith(("data.task=", "data.tokenizer=", "data.vocab=")):
            settings.load("reverse", [value])


def test_runs_are_offered_by_name_and_by_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tui_lab.core.training.task_factory import build_task

    monkeypatch.chdir(tmp_path)
    task = build_task(tiny())
    runs.create("first", tiny(), task.tokenizer, runs.runs_folder() / "first")
    runs.create("second", tiny(), task.tokenizer, tmp_path / "elsewhere" / "second")
    assert words(completion.run("fi")) == ["first"]
    assert words(completion.run("else")) == ["elsewhere/"]
    assert words(completion.run("elsewhere/")) == ["elsewhere/second"]
    assert words(completion.run(f"{tmp_path}/elsewhere/s")) == [f"{tmp_path}/elsewhere/second"]


def test_an_error_offers_nothing() -> None:
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
def test_bashs_words_are_joined_again(given_words: list[str], current: int, expected: list[str]) -> None:
    assert joined(given_words, current) == expected

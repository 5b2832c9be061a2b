"""Neither a corpus, a file's name, a setting nor a model can drive the terminal: control characters are escaped."""

import io
import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pytest

from tests.process import TINY
from tools.torture.commands import CONTROLS, call

EVIL = "\x1b]0;pwned\x07\x1b[2J\x9b31m\u202e[red]x[/red][link=http://x]y[/link]\b\r"
COLORS = re.compile(r"\x1b\[[0-9;]*m|\x1b\[\?25[lh]|\x1b\[2K|\x1b\[1A|\r")
"""What rich itself writes to a terminal."""
SETTINGS = (
    "data.task=text",
    "data.tokenizer=char",
    "model.context=8",
    "train.eval_examples=4",
    "model.d_model=8",
    "model.n_layers=1",
    "train.threads=1",
)
TEXT = [word for setting in SETTINGS for word in ("--set", setting)]


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def assert_escaped(output: str) -> None:
    assert not CONTROLS.search(output), repr(CONTROLS.search(output))


@pytest.fixture
def evil_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Arguments for a text, and a file name, full of control characters."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil\x1b[31m[red].txt").write_text(EVIL * 40, "utf-8")
    return ["reverse", *TEXT, "--set", "data.path=evil\x1b[31m[red].txt"]


def output(*arguments: str, terminal: bool = False) -> str:
    """What a command writes to stdout and stderr, without rich's colors. The command must succeed."""
    with mock.patch("io.StringIO", Terminal if terminal else io.StringIO):
        code, out, err = call(arguments)
    assert code == 0, err
    return COLORS.sub("", out + err) if terminal else out + err


@pytest.mark.parametrize("terminal", [False, True], ids=["pipe", "terminal"])
def test_a_corpus_is_shown_escaped(terminal: bool, evil_text: list[str]) -> None:
    batch = output("batch", *evil_text, "--examples", "16", terminal=terminal)
    assert_escaped(batch)
    assert "\\x1b" in batch
    info = output("data", "info", *evil_text, terminal=terminal)
    assert_escaped(info)
    assert "evil\\x1b[31m[red].txt" in info, "markup is shown unchanged"
    assert_escaped(output("run", *evil_text, "--steps", "2", "--out", "run\x1b[31m", terminal=terminal))


def test_generate_escapes_on_a_terminal_but_not_in_a_pipe(evil_text: list[str]) -> None:
    output("run", *evil_text, "--steps", "2", "--out", "run")
    generate = ("generate", "run", "--prompt", "a\x1b[31m\tb\n", "--max-new-tokens", "60", "--temperature", "3")
    with mock.patch("io.StringIO", Terminal):
        _, on_terminal, _ = call(generate)
    assert_escaped(on_terminal)
    assert on_terminal.startswith("a\\x1b[31m\tb\n"), "newlines and tabs stay"
    _, piped, _ = call(generate)
    assert piped.startswith("a\x1b[31m\tb\n")
    lines = [json.loads(line) for line in call([*generate, "--json"])[1].splitlines()]
    assert piped == lines[-1]["prompt"] + lines[-1]["text"] + "\n"


@pytest.mark.usefixtures("doctor_in_process")
@pytest.mark.parametrize(
    "arguments",
    [
        lambda evil: ["run", evil],
        lambda evil: ["run", "reverse", f"--{evil}"],
        lambda evil: ["run", "reverse", "--set", f"optim.lr={evil}"],
        lambda evil: ["run", "--resume", evil],
        lambda evil: ["data", "info", "socrates", "--set", f"data.path={evil}"],
        lambda evil: ["doctor", f"{evil}.py:x"],
    ],
)
def test_errors_quote_names_and_values_escaped(
    arguments: Callable[[str], list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = call(arguments(EVIL))
    assert code == 2 and "Traceback" not in err and "pwned" in err
    assert_escaped(err)


@pytest.mark.slow
def test_names_that_are_not_utf_8_and_terminals_that_are_not(command: list[str], tmp_path: Path) -> None:
    ascii_only = {"PYTHONIOENCODING": "ascii"}
    arguments: list[str | bytes] = [*command, "config", "validate", b"\xff.toml"]
    done = subprocess.run(arguments, cwd=tmp_path, capture_output=True, env=ascii_only, check=False)
    assert done.returncode == 2 and b"\\udcff.toml" in done.stderr
    done = subprocess.run([*command, "presets"], cwd=tmp_path, capture_output=True, env=ascii_only, check=False)
    assert done.returncode == 0, done.stderr


def test_a_run_s_name_and_events_are_shown_escaped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    name, folder = "run\x1b[31m[red]x[link=y]", tmp_path / "runs"
    output("run", "reverse", *TINY, "--steps", "1", "--out", str(folder / name))
    summary = folder / name / "summary.json"
    record = json.loads(summary.read_text("utf-8"))
    summary.write_text(json.dumps(record | {"run": EVIL}), "utf-8")
    with (folder / name / "events.jsonl").open("a") as out:
        out.write(json.dumps({"event": "changed", "step": 1, "key": EVIL, "old": 1, "new": EVIL}) + "\n")
    listing = output("runs", "ls")
    assert_escaped(listing + output("runs", "show", name))
    assert "[red]x[link=y]" in listing

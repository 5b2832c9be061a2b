"""Neither a corpus nor a file's name, a value or a model may drive the person's terminal."""

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
COLOURS = re.compile(r"\x1b\[[0-9;]*m|\x1b\[\?25[lh]|\x1b\[2K|\x1b\[1A|\r")
"""What rich itself writes to a terminal."""
TEXT = [
    part
    for pair in ("data.task=text", "data.tokenizer=char", "model.context=8", "train.eval_examples=4", "model.d_model=8",
                 "model.n_layers=1", "train.threads=1")
    for part in ("--set", pair)
]  # fmt: skip


class Tty(io.StringIO):
    """A terminal, as far as a program asks."""

    def isatty(self) -> bool:
        return True


def harmless(shown: str) -> None:
    assert not CONTROLS.search(shown), repr(CONTROLS.search(shown))


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Arguments for a text and a name that would like to drive the terminal; in an empty folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil\x1b[31m[red].txt").write_text(EVIL * 40, "utf-8")
    return ["reverse", *TEXT, "--set", "data.path=evil\x1b[31m[red].txt"]


def shown(*arguments: str, terminal: bool = False) -> str:
    """What a command that does not fail writes, standard output and error together; without rich's colours."""
    with mock.patch("io.StringIO", Tty if terminal else io.StringIO):
        code, out, err = call(arguments)
    assert code == 0, err
    return COLOURS.sub("", out + err) if terminal else out + err


@pytest.mark.parametrize("terminal", [False, True], ids=["pipe", "terminal"])
def test_what_shows_a_corpus_shows_it_escaped(terminal: bool, asked: list[str]) -> None:
    batch = shown("batch", *asked, "--examples", "16", terminal=terminal)
    harmless(batch)
    assert "\\x1b" in batch
    info = shown("data", "info", *asked, terminal=terminal)
    harmless(info)
    assert "evil\\x1b[31m[red].txt" in info, "markup is shown as it stands"
    harmless(shown("run", *asked, "--steps", "2", "--out", "run\x1b[31m", terminal=terminal))
    harmless(shown("runs", "show", "run\x1b[31m", terminal=terminal))


def test_generate_escapes_for_a_terminal_and_gives_a_pipe_the_words_themselves(asked: list[str]) -> None:
    shown("run", *asked, "--steps", "2", "--out", "run")
    words = ("generate", "run", "--prompt", "a\x1b[31m\tb\n", "--max-new-tokens", "60", "--temperature", "3")
    with mock.patch("io.StringIO", Tty):
        _, on_terminal, _ = call(words)
    harmless(on_terminal)
    assert on_terminal.startswith("a\\x1b[31m\tb\n"), "a newline and a tab are the text's own"
    _, piped, _ = call(words)
    assert piped.startswith("a\x1b[31m\tb\n"), "a pipe gets what the model says as it is"
    told = [json.loads(line) for line in call([*words, "--json"])[1].splitlines()]
    assert piped == told[-1]["prompt"] + told[-1]["text"] + "\n"


@pytest.mark.parametrize(
    "arguments",
    [
        lambda evil: [evil],
        lambda evil: ["run", evil],
        lambda evil: ["run", "reverse", f"--{evil}"],
        lambda evil: ["run", "reverse", "--set", f"{evil}=1"],
        lambda evil: ["run", "reverse", "--set", f"optim.lr={evil}"],
        lambda evil: ["run", "reverse", "--steps", evil],
        lambda evil: ["run", "reverse", *TINY, "--out", f"/dev/null/{evil}"],
        lambda evil: ["run", "--resume", evil],
        lambda evil: ["run", "reverse", "--require", evil],
        lambda evil: ["data", "info", "socrates", "--set", f"data.path={evil}"],
        lambda evil: ["runs", "show", evil],
        lambda evil: ["serve", "--host", evil],
        lambda evil: ["doctor", f"{evil}.py:x"],
    ],
)
def test_an_error_quotes_a_name_or_value_escaped(
    arguments: Callable[[str], list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = call(arguments(EVIL))
    assert code == 2 and "Traceback" not in err and ("pwned" in err or "'--steps'" in err)
    harmless(err)


def test_a_name_that_is_no_utf_8_and_a_terminal_that_is_not_are_no_trap(command: list[str], tmp_path: Path) -> None:
    asked: list[str | bytes] = [*command, "config", "validate", b"\xff.toml"]
    done = subprocess.run(asked, cwd=tmp_path, capture_output=True, env={"PYTHONIOENCODING": "ascii"}, check=False)
    assert done.returncode == 2 and b"\\udcff.toml" in done.stderr
    shown_plain = subprocess.run(
        [*command, "presets"], cwd=tmp_path, capture_output=True, env={"PYTHONIOENCODING": "ascii"}, check=False
    )
    assert shown_plain.returncode == 0, shown_plain.stderr


def test_a_run_s_record_and_name_are_shown_escaped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    name, folder = "run\x1b[31m[red]x[link=y]", tmp_path / "runs"
    shown("run", "reverse", *TINY, "--steps", "1", "--out", str(folder / name))
    summary = folder / name / "summary.json"
    record = json.loads(summary.read_text("utf-8"))
    summary.write_text(json.dumps(record | {"reason": EVIL, "run": EVIL}), "utf-8")
    with (folder / name / "events.jsonl").open("a") as out:
        out.write(json.dumps({"event": "changed", "step": 1, "key": EVIL, "old": 1, "new": EVIL}) + "\n")
    listed = shown("runs", "ls")
    harmless(listed + shown("runs", "show", name))
    assert "[red]x[link=y]" in listed

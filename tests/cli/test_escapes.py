"""Neither a corpus nor a file's name, a value or a model may drive the person's terminal."""

import json
import os
import pty
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import TINY, Cli
from tests.torture.commands import CONTROLS

EVIL = "\x1b]0;pwned\x07\x1b[2J\x9b31m\u202e[red]x[/red][link=http://x]y[/link]\b\r"
COLOURS = re.compile(r"\x1b\[[0-9;]*m|\x1b\[\?25[lh]|\x1b\[2K|\x1b\[1A|\r")
"""What rich itself writes to a terminal."""
TEXT = [
    part
    for pair in ("data.task=text", "data.tokenizer=char", "model.context=8", "train.eval_examples=4", "model.d_model=8",
                 "model.n_layers=1", "train.threads=1")
    for part in ("--set", pair)
]  # fmt: skip


def harmless(shown: str) -> None:
    assert not CONTROLS.search(shown), repr(CONTROLS.search(shown))


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """A text and a name that would like to drive the terminal."""
    file = tmp_path / "evil\x1b[31m[red].txt"
    file.write_text(EVIL * 40, "utf-8")
    return file


def on_a_terminal(command: list[str], cwd: Path, *arguments: str) -> str:
    """What the command writes to a pseudo-terminal, standard output and error together, without rich's colours."""
    master, slave = pty.openpty()
    with subprocess.Popen([*command, *arguments], cwd=cwd, stdin=slave, stdout=slave, stderr=slave) as process:
        os.close(slave)
        found = b""
        while True:
            try:
                chunk = os.read(master, 65536)
            except OSError:
                break
            if not chunk:
                break
            found += chunk
        process.wait()
    os.close(master)
    return COLOURS.sub("", found.decode("utf-8"))


@pytest.mark.parametrize("where", ["pipe", "terminal"])
def test_what_shows_a_corpus_shows_it_escaped(
    where: str, cli: Cli, command: list[str], corpus: Path, tmp_path: Path
) -> None:
    def shown(*arguments: str) -> str:
        if where == "terminal":
            return on_a_terminal(command, tmp_path, *arguments)
        done = cli(*arguments)
        return done.stdout + done.stderr

    asked = ("reverse", *TEXT, "--set", f"data.path={corpus.name}")
    batch = shown("batch", *asked)
    harmless(batch)
    assert "\\x1b" in batch and "[" in batch
    info = shown("data", "info", *asked)
    harmless(info)
    assert "evil\\x1b[31m[red].txt" in info, "markup is shown as it stands"
    harmless(shown("run", *asked, "--steps", "2", "--out", "run\x1b[31m"))
    harmless(shown("runs", "show", "run\x1b[31m"))


def test_generate_escapes_for_a_terminal_and_gives_a_pipe_the_words_themselves(
    cli: Cli, command: list[str], corpus: Path, tmp_path: Path
) -> None:
    assert (
        cli("run", "reverse", *TEXT, "--set", f"data.path={corpus.name}", "--steps", "2", "--out", "run").returncode
        == 0
    )
    asked = ("generate", "run", "--prompt", "a\x1b[31m\tb\n", "--max-new-tokens", "60", "--temperature", "3")
    harmless(on_a_terminal(command, tmp_path, *asked).replace("\t", ""))
    piped = cli(*asked).stdout
    assert piped.startswith("a\x1b[31m\tb\n"), "a pipe gets what the model says, byte for byte"
    told = [json.loads(line) for line in cli(*asked, "--json").stdout.splitlines()]
    assert piped == told[-1]["text"] + "\n"


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
    arguments: Callable[[str], list[str]], command: list[str], tmp_path: Path
) -> None:
    done = subprocess.run(
        [*command, *arguments(EVIL)], cwd=tmp_path, capture_output=True, check=False,
        env={**os.environ, "COLUMNS": "120", "NO_COLOR": "1"},
    )  # fmt: skip
    shown = done.stderr.decode("utf-8")
    assert done.returncode == 2, shown
    assert "Traceback" not in shown and "pwned" in shown
    harmless(shown)


def test_names_that_are_no_utf_8_and_terminals_that_are_not_are_no_trap(command: list[str], tmp_path: Path) -> None:
    named = subprocess.run(
        [*command, "config", "validate", b"\xff.toml"], cwd=tmp_path, capture_output=True, check=False
    )
    assert named.returncode == 2 and b"\\udcff.toml" in named.stderr
    plain = {**os.environ, "PYTHONIOENCODING": "ascii", "NO_COLOR": "1"}
    for asked in (["batch", "reverse"], ["config", "show", "reverse"], ["presets"]):
        done = subprocess.run([*command, *asked], cwd=tmp_path, capture_output=True, env=plain, check=False)
        assert done.returncode == 0, done.stderr


def test_a_run_s_record_and_name_are_shown_escaped(cli: Cli, tmp_path: Path) -> None:
    name = "run\x1b[31m[red]x[/red]"
    assert cli("run", "reverse", *TINY, "--steps", "1", "--out", f"runs/{name}").returncode == 0
    summary = tmp_path / "runs" / name / "summary.json"
    record = json.loads(summary.read_text("utf-8"))
    summary.write_text(json.dumps(record | {"reason": EVIL, "run": EVIL}), "utf-8")
    with (tmp_path / "runs" / name / "events.jsonl").open("a") as out:
        out.write(json.dumps({"event": "changed", "step": 1, "key": EVIL, "old": 1, "new": EVIL}) + "\n")
    for asked in (["ls"], ["show", name]):
        done = cli("runs", *asked)
        harmless(done.stdout + done.stderr)
        assert done.returncode == 0
    assert "[red]x[/red]" in cli("runs", "ls").stdout

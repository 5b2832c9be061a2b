"""Nothing but `data fetch` uses the network: here every process of tui-lab runs with its sockets blocked."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.app.test_end_to_end import Person
from tests.process import TINY, Cli
from tui_lab.core.config import settings

Requests = Callable[[], list[str]]

RUN_ALL = """
import json, sys
from tui_lab.cli.main import main

codes = []
for arguments in json.loads(sys.argv[1]):
    sys.argv = ["tui-lab", *arguments]
    try:
        main()
        codes.append(0)
    except SystemExit as end:
        codes.append(end.code)
print(json.dumps(codes))
"""
"""Run commands in one process, which imports torch once; the last line holds their exit codes."""

USER_MODEL = """
from torch import nn

def mine():
    return nn.Sequential(nn.Embedding(13, 8), nn.Linear(8, 13))
"""

COMMANDS: tuple[tuple[str, ...], ...] = (
    ("presets",),
    ("config", "show", "pseudo-socrates"),
    ("data", "info", "pseudo-socrates"),
    ("batch", "pseudo-socrates"),
    ("run", "reverse", *TINY, "--steps", "3", "--out", "r"),
    ("run", "--resume", "r", "--steps", "5", "--json"),
    ("run", "socrates", "--set", "model.d_model=8", "--set", "train.eval_examples=1", "--steps", "1", "--out", "s"),
    ("generate", "r", "--prompt", "123", "--max-new-tokens", "3"),
    ("doctor", "reverse", *TINY),
    ("doctor", "mine.py:mine"),
    ("doctor", "--environment"),
    ("randomness", "reverse", *TINY),
    ("runs", "ls"),
    ("runs", "show", "r"),
)


@pytest.fixture
def requests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Requests:
    """The attempts of this test's processes to use the network, all of which are refused."""
    log = tmp_path / "requests.txt"
    paths = [str(Path(__file__).parent / "no_network"), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    monkeypatch.setenv("TUI_LAB_REQUESTS", str(log))
    return lambda: log.read_text("utf-8").splitlines() if log.exists() else []


def test_data_fetch_without_a_network_is_exit_2(
    requests: Requests, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also shows that the blocked sockets notice an attempt."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    done = cli("data", "fetch", "plato")
    assert done.returncode == 2 and "are you online?" in done.stderr and "Traceback" not in done.stderr
    assert any("gutenberg.org" in line for line in requests())


@pytest.mark.slow
def test_commands_use_no_network(requests: Requests, cli: Cli, command: list[str], tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(USER_MODEL, "utf-8")
    command[1:] = ["-c", RUN_ALL]
    done = cli(json.dumps(COMMANDS))
    codes = dict(zip(COMMANDS, json.loads(done.stdout.splitlines()[-1]), strict=True))
    assert codes == dict.fromkeys(COMMANDS, 0), done.stderr
    assert requests() == []


@pytest.mark.slow
def test_the_app_uses_no_network(requests: Requests, tmp_path: Path) -> None:
    sets = [word for word in TINY if word != "--set"] + ["train.steps=20"]
    (tmp_path / "tiny.toml").write_text(settings.to_toml(settings.load("reverse", sets)), "utf-8")
    person = Person(tmp_path, "app", "tiny.toml")
    person.wait_for("■ done")
    person.press("g")
    person.wait_until(lambda seen: "✓ right" in seen or "✗ expected" in seen)
    person.press("K")
    person.wait_until(lambda seen: "No problems found" in seen or "finding" in seen)
    person.press("q")
    assert person.leave() == 0
    assert requests() == []


def test_sockets_are_blocked_in_every_process(requests: Requests, cli: Cli, command: list[str]) -> None:
    """By name and by number, from a process that a process started; a pair on this machine is let through."""
    child = (
        "import socket; one, other = socket.socketpair(); one.send(b'x'); assert other.recv(1) == b'x'; "
        "socket.create_connection(('127.0.0.1', 9))"
    )
    command[1:] = ["-c", f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"]
    assert "the network is blocked" in cli().stderr and len(requests()) == 1
    assert sys.executable == command[0]

"""Interrupted and resumed equals uninterrupted: the same losses, the same bytes of the final weights."""

import errno
import hashlib
import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.command_line import RunCli
from tests.process import TINY
from tui_lab.bench.pseudo_terminal import Terminal
from tui_lab.cli import run as cli_run
from tui_lab.cli import show, signals
from tui_lab.cli.pipe_console import PipeConsole
from tui_lab.cli.signals import exit_code_of, interrupt_on_signals, is_unread, stop_on_signals
from tui_lab.core.runs.folder import Run
from tui_lab.util.exit_codes import INTERRUPTED, NOT_MET, UNREAD, of_signal

# An epoch of the 125 rows of three digits out of five ends within every second step.
RUN = (
    "run",
    "reverse",
    *TINY,
    "--set",
    "data.n_digits=5",
    "--set",
    "model.dropout=0.2",
    "--set",
    "train.batch_size=64",
    "--set",
    "train.eval_every=7",
    "--steps",
    "60",
    "--json",
    "--out",
)


def losses(lines: list[str]) -> list[float]:
    records: list[dict[str, Any]] = [json.loads(line) for line in lines]
    return [record["loss"] for record in records if record["event"] == "step"]


def fingerprint(run: Path) -> dict[str, str]:
    folder = max((run / "checkpoints").iterdir())  # Beside the last one, the best is kept.
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.glob("*.safetensors")}


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_a_signal_saves_and_resuming_loses_nothing(
    number: signal.Signals, run_cli: RunCli, command: list[str], tmp_path: Path
) -> None:
    whole = run_cli(*RUN, "whole")
    with subprocess.Popen(
        [*command, *RUN, "cut"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        first = []
        for line in process.stdout:
            first.append(line)
            record = json.loads(line)
            # Once: a second signal would end the process at once.
            if record["event"] == "step" and record["step"] == 20:
                process.send_signal(number)
        stderr = process.stderr.read()
    assert process.returncode == of_signal(number)
    assert "tui-lab run --resume cut" in stderr
    assert json.loads(first[-1])["reason"] == "stopped"
    resumed = run_cli("run", "--resume", "cut", "--json")
    assert resumed.code == 0
    assert losses(first) + losses(resumed.out.splitlines()) == losses(whole.out.splitlines())
    assert fingerprint(tmp_path / "cut") == fingerprint(tmp_path / "whole")
    assert len(losses((tmp_path / "cut" / "events.jsonl").read_text("utf-8").splitlines())) == 60


@pytest.mark.slow
def test_a_closed_terminal_saves_the_run(command: list[str], tmp_path: Path) -> None:
    unchanging = ("--set", "optim.lr=1e-9")  # Its loss is that of the first step, however late it is drawn.
    arguments = ["run", "reverse", *TINY, *unchanging, "--steps", "1000000", "--out", "hung"]
    terminal = Terminal([*command, *arguments], (80, 24), tmp_path)
    terminal.wait_for("loss 2.", 60)
    terminal.hang_up()
    assert terminal.end() == of_signal(signal.SIGHUP)
    last = json.loads((tmp_path / "hung" / "events.jsonl").read_text("utf-8").splitlines()[-1])
    assert (last["event"], last["reason"]) == ("stopped", "stopped")
    assert max((tmp_path / "hung" / "checkpoints").iterdir()).name == f"step-{last['step']:08d}"


def test_a_hangup_may_be_received_several_times() -> None:
    n_stops = 0

    def stop() -> None:
        nonlocal n_stops
        n_stops += 1

    before = signal.getsignal(signal.SIGHUP)
    try:
        with stop_on_signals(stop) as interruption:
            os.kill(os.getpid(), signal.SIGHUP)
            os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert interruption.received
    assert n_stops == 1


def test_a_sigterm_sent_twice_at_once_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """As `timeout` sends it; a later one ends the program."""
    with stop_on_signals() as interruption:
        for _ in range(2):
            signal.raise_signal(signal.SIGTERM)
        assert interruption.received
        monkeypatch.setattr(signals, "SAME_SIGTERM", 0.0)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)


def test_a_hangup_that_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_on_signals() as interruption:
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert not interruption.received


def test_the_end_of_a_file_is_an_error_and_not_an_interruption(
    run_cli: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    def show_presets(as_json: bool) -> None:
        raise EOFError("marshal data too short")

    monkeypatch.setattr(show, "show_presets", show_presets)
    with pytest.raises(EOFError, match="too short"):
        run_cli("presets")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_is_the_exit_code_also_of_an_interruption_that_another_one_caused(number: signal.Signals) -> None:
    with pytest.raises(KeyboardInterrupt) as caught, interrupt_on_signals():
        try:
            signal.raise_signal(number)
        except KeyboardInterrupt as interrupt:
            raise KeyboardInterrupt from interrupt
    assert exit_code_of(caught.value) == of_signal(number)
    assert exit_code_of(KeyboardInterrupt()) == INTERRUPTED == of_signal(signal.SIGINT)


def test_a_pipe_without_a_reader_is_unread() -> None:
    reader, writer = os.pipe()
    assert not is_unread(writer)
    os.close(reader)
    assert is_unread(writer)
    os.close(writer)
    assert not is_unread(writer), "it is closed"


def test_a_reader_that_has_ended_ends_the_command(run_cli: RunCli, monkeypatch: pytest.MonkeyPatch) -> None:
    def show_presets(as_json: bool) -> None:
        reader, writer = os.pipe()
        os.close(reader)
        with open(writer, "w") as stream:
            PipeConsole(file=stream).print("text")

    monkeypatch.setattr(show, "show_presets", show_presets)
    assert run_cli("presets").code == UNREAD == of_signal(signal.SIGPIPE)


@pytest.mark.parametrize("options", [["--json"], []])
def test_a_run_goes_on_when_its_reader_has_ended(
    options: list[str], run_cli: RunCli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*values: Any) -> None:
        raise BrokenPipeError(errno.EPIPE, "broken")

    for name in ("write", "write_json", "say"):
        monkeypatch.setattr(cli_run, name, broken)
    command = ("run", "reverse", *TINY, "--steps", "3", "--out", "r", "--require", "train_loss<0")
    assert run_cli(*command, *options).code == NOT_MET
    assert Run(tmp_path / "r").latest().name == "step-00000003"

"""`tui-lab memory`: estimates, and what a process of its own measures."""

import json
import signal
import subprocess
from pathlib import Path
from typing import Any, NoReturn

import pytest

from tests.command_line import RunCli
from tests.core.tiny import tiny
from tui_lab.cli import memory_script
from tui_lab.cli.memory import measured_memory
from tui_lab.core.config import settings
from tui_lab.core.watch.memory.script_memory import ScriptMemory
from tui_lab.core.watch.memory.step_memory import StepMemory


def test_estimate_is_a_table_of_parts(run_cli: RunCli) -> None:
    result = run_cli("memory", "reverse")
    assert result.code == 0
    assert all(part in result.out for part in ("weights", "optimizer state", "activations", "batch"))
    parts = json.loads(run_cli("memory", "reverse", "--json").out)
    assert parts["measured"] is None and parts["estimated"]["weights"] == 4 * 101_450


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        (["train.py", "--set", "train.steps=3"], "--set"),
        (["reverse", "--steps", "4"], "--steps"),
        ([], "memory"),
        (["reverse", "--", "--x"], "memory"),
    ],
)
def test_options_of_a_script_and_of_a_config_are_not_mixed(
    arguments: list[str], key: str, run_cli: RunCli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").write_text("raise ValueError\n", "utf-8")
    result = run_cli("memory", *arguments)
    assert result.code == 2 and key in result.err


def test_what_is_not_known_is_never_0(run_cli: RunCli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unknown = StepMemory(
        n=1,
        device="mps",
        weights=None,
        frozen=None,
        buffers=None,
        gradients=None,
        early_gradients=0,
        early_fate="",
        optimizer=None,
        optimizers=(),
        kept=None,
        logits=None,
        batch=None,
        rows=None,
        micro_batches=1,
        others=None,
        held=None,
        most=None,
        reserved=None,
    )
    memory = ScriptMemory(unknown, 1, None, None, None, None, "", ())
    monkeypatch.setattr(memory_script, "measure_script", lambda script, n_steps: memory)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").write_text("", "utf-8")
    rows = [line for line in run_cli("memory", "train.py").out.splitlines() if line.startswith("│")]
    assert len(rows) == 10 and all(memory_script.UNKNOWN in row for row in rows)
    parts = json.loads(run_cli("memory", "train.py", "--json").out)
    assert parts["measured"]["step"]["weights"] is None and parts["batch"] is None and parts["advice"] == []


def test_long_names_of_modules_keep_their_end() -> None:
    name = "base_model.model.transformer.h.*.attn"
    assert memory_script.shortened(name, len(name)) == name
    assert memory_script.shortened(name, 30) == "…model.transformer.h.*.attn"
    assert memory_script.shortened(name, 2) == "…attn"


def test_signal_that_ends_the_command_ends_the_process_that_measures(monkeypatch: pytest.MonkeyPatch) -> None:
    """`subprocess.run` kills its process only where an exception is raised."""
    handlers: list[Any] = []

    def run(*arguments: Any, **options: Any) -> NoReturn:
        handlers.append(signal.getsignal(signal.SIGTERM))
        raise OSError

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(OSError):
        measured_memory(tiny())
    with pytest.raises(KeyboardInterrupt):
        handlers[0](signal.SIGTERM, None)


@pytest.mark.slow
def test_measured_parts_are_the_estimated_ones(tmp_path: Path, run_cli: RunCli) -> None:
    path = tmp_path / "tiny.toml"
    path.write_text(settings.to_toml(tiny("train.batch_size=32", "model.d_ff=64")), "utf-8")
    result = json.loads(run_cli("memory", path, "--measure", "--json").out)
    estimated, measured = result["estimated"], result["measured"]
    for part in ("weights", "gradients", "optimizer", "activations", "head", "batch"):
        assert estimated[part] == measured[part], part
    assert measured["step"] == pytest.approx(estimated["step"], rel=0.2)
    assert measured["peak"] > measured["process"]

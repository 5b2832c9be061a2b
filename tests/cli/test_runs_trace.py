"""`tui-lab runs trace`: what became non-finite first in a recorded run, asked afterwards."""

import json
from pathlib import Path

import pytest

from tests.command_line import CliError, RunCli
from tests.core.recorded import recorded, recorded_script
from tests.core.tiny import of_kind, trainer_and_run
from tui_lab.core import events as ev
from tui_lab.util.exit_codes import BAD_USAGE, DONE, FAILED, NOT_MET


def test_failed_run_is_traced_as_text_and_json(run_cli: RunCli, tmp_path: Path) -> None:
    training, run = trainer_and_run(tmp_path / "run", 'faults=["not_finite"]')
    [recorded] = of_kind(ev.NonFinite, list(run.record(training.events())))
    traced = run_cli("runs", "trace", run.path)
    assert traced.code == NOT_MET and "division" not in traced.err
    assert all(part in traced.out for part in ("layers.0", "divides by zero", "all 4 rows"))
    as_json = run_cli("runs", "trace", run.path, "--json")
    assert as_json.code == NOT_MET and ev.parse_event(as_json.out) == recorded


def test_finite_step(run_cli: RunCli, tmp_path: Path) -> None:
    training, run = trainer_and_run(tmp_path / "run", "train.checkpoint_every=2")
    list(run.record(training.events()))
    assert run_cli("runs", "trace", run.path, "--step", 5).code == DONE
    as_json = run_cli("runs", "trace", run.path, "--step", 5, "--json")
    assert as_json.code == DONE and json.loads(as_json.out) is None


def test_what_cannot_be_traced_is_refused(cli_error: CliError, run_cli: RunCli, tmp_path: Path) -> None:
    recorded_script(tmp_path / "script")
    recorded(tmp_path / "healthy")
    assert cli_error("runs", "trace", tmp_path / "script").code == "unavailable"
    assert cli_error("runs", "trace", tmp_path / "healthy").code == "not_found"
    assert cli_error("runs", "trace", tmp_path / "healthy", "--step", 3).code == "not_found"
    assert run_cli("runs", "trace", tmp_path / "healthy", "--step", 0).code == BAD_USAGE


OWN_MODEL = """
import torch
class Overflowing(torch.nn.Module):
    def __init__(self, n_vocab, d_model):
        super().__init__()
        self.embedding = torch.nn.Embedding(n_vocab, d_model)
        self.head = torch.nn.Linear(d_model, n_vocab)
    def forward(self, x):
        return self.head(self.embedding(x) * 1e30 * 1e30)
"""


def test_model_of_the_user_is_run_only_if_trusted(
    run_cli: RunCli, cli_error: CliError, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.py").write_text(OWN_MODEL, "utf-8")
    source = f"model.source={tmp_path / 'mine.py'}:Overflowing"
    options = ["--set", source, "--set", "train.batch_size=4", "--set", "train.eval_every=0", "--steps", 9]
    assert run_cli("run", "reverse", *options, "--out", tmp_path / "run").code == FAILED
    monkeypatch.setenv("TUI_LAB_CACHE", str(tmp_path / "another cache"))
    assert "--allow-code" in str(cli_error("runs", "trace", tmp_path / "run"))
    traced = run_cli("runs", "trace", tmp_path / "run", "--allow-code")
    assert traced.code == NOT_MET and "Overflowing itself, mul at" in traced.out

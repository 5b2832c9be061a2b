"""`tui-lab memory`: estimates, and what a process of its own measures."""

import json
from pathlib import Path

import pytest

from tests.command_line import RunCli
from tests.core.tiny import tiny
from tui_lab.core.config import settings


def test_estimate_is_a_table_of_parts(run_cli: RunCli) -> None:
    result = run_cli("memory", "reverse")
    assert result.code == 0
    assert all(part in result.out for part in ("weights", "optimizer state", "activations", "batch"))
    parts = json.loads(run_cli("memory", "reverse", "--json").out)
    assert parts["measured"] is None and parts["estimated"]["weights"] == 4 * 101_450


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

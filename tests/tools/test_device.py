"""`make device`: a dry run on the CPU, and parts that fail, die or hang."""

import io
import json
import zipfile
from contextlib import redirect_stdout
from pathlib import Path

import pytest
import torch

from tools.device.__main__ import ROOT, main
from tools.device.cards import BF16_TFLOPS, bf16_peak
from tools.device.parts import PARTS, PartInfo
from tools.device.runner import Outcome, Runner
from tools.device.table import lines, peak_of
from tools.device.wheels import unpack

SHAPES = {"reverse", "socrates", "pseudo-socrates", "GPT-2 124M shape"}


@pytest.mark.slow
def test_dry_run_passes_every_part(tmp_path: Path) -> None:
    file = tmp_path / "device.json"
    output = io.StringIO()
    with redirect_stdout(output):
        exit_code = main(["--dry-run", "--seconds", "3000", "--json", str(file)])
    outcomes = json.loads(file.read_text("utf-8"))
    assert exit_code == 0, output.getvalue()
    assert list(outcomes) == [part.name for part in PARTS]
    assert {outcome["status"] for outcome in outcomes.values()} == {"ok"}
    rows = [row["figures"] for outcome in outcomes.values() for row in outcome["rows"] if row["table"] == "speed"]
    assert {row["shape"] for row in rows} == SHAPES and len(rows) == 4 * len(SHAPES) + 2  # Ours is compiled for two.
    assert all(row["ms_a_step"] > 0 and row["tokens_per_s"] > 0 and row["times_best_peer"] > 0 for row in rows)
    assert all(name in output.getvalue() for name in SHAPES)


def test_without_a_gpu_nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit) as end:
        main([])
    assert "no GPU" in str(end.value.code)


def outcomes_of(folder: Path, *names: str, seconds: float = 1000.0) -> dict[str, Outcome]:
    """Run a stub's parts; the one named "hangs" has no time."""
    parts = [PartInfo(name, "", 0.0 if name == "hangs" else 1000.0, "stub") for name in names]
    environment = {"PYTHONPATH": str(ROOT)}
    stub = "tests.tools.device_worker_stub"
    return Runner("cpu", folder, environment, seconds, dry_run=False, parts=parts, worker=stub).run()


def test_each_part_is_reported_and_the_rest_goes_on(tmp_path: Path) -> None:
    outcomes = outcomes_of(tmp_path, "first", "raises", "dies", "hangs", "finds a fault", "cannot start", "last")
    assert {name: outcome.status for name, outcome in outcomes.items()} == {
        "first": "ok",
        "raises": "failed",
        "dies": "failed",
        "hangs": "out of time",
        "finds a fault": "failed",
        "cannot start": "ok",
        "last": "ok",
    }
    assert "CUDA error" in outcomes["raises"].error and "killed by the driver" in outcomes["dies"].error
    assert outcomes["dies"].rows and not outcomes["finds a fault"].error
    table = "\n".join(lines(outcomes, dry_run=False))
    assert "CUDA error" in table and "out of time" in table


def test_a_worker_that_cannot_start_fails_its_first_part(tmp_path: Path) -> None:
    outcomes = outcomes_of(tmp_path, "cannot start", "last")
    assert outcomes["cannot start"].status == "failed" and outcomes["last"].status == "ok"


def test_parts_without_time_are_not_run(tmp_path: Path) -> None:
    assert outcomes_of(tmp_path, "first", seconds=0.0)["first"].status == "not run"


def test_peak_is_the_datasheet_value_or_measured() -> None:
    assert bf16_peak("no such card") is None
    outcome = Outcome()
    outcome.rows["fact", "GEMM bf16"] = {"table": "fact", "name": "GEMM bf16", "ok": True, "figures": {"tflops": 5.0}}
    machine = {"table": "fact", "name": "machine", "ok": True, "figures": {"bf16_peak_tflops": None}}
    outcome.rows["fact", "machine"] = machine
    peak = peak_of({"machine": outcome})
    assert peak is not None and peak[0] == 5.0
    machine["figures"] = {"bf16_peak_tflops": bf16_peak("NVIDIA H200")}
    assert peak_of({"machine": outcome}) == BF16_TFLOPS["NVIDIA H200"]


def test_wheels_are_unpacked(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "some-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("some/__init__.py", "")
    assert (unpack(tmp_path, tmp_path / "site") / "some" / "__init__.py").exists()
    with pytest.raises(FileNotFoundError):
        unpack(tmp_path / "site", tmp_path / "other")

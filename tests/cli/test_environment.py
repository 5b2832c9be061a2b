"""`tui-lab doctor --environment`: what it reports is true, and something needed that is missing is exit code 1."""

import json
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from packaging.requirements import Requirement

from tests.command_line import CliError, RunCli
from tests.plugin_packages import SUMS, Install
from tui_lab.cli.environment import compute, storage, versions
from tui_lab.util import extras


def report(run_cli: RunCli, code: int = 0) -> dict[str, Any]:
    done = run_cli("doctor", "--environment", "--json")
    assert done.code == code, done.err
    value: dict[str, Any] = json.loads(done.out)
    return value


def named(value: dict[str, Any], section: str) -> dict[str, dict[str, Any]]:
    return {entry["name"]: entry for entry in value["missing"] if entry["section"] == section}


def test_figures_are_those_of_this_process(run_cli: RunCli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    value = report(run_cli)
    assert value["schema"] == 1 and value["works"]
    assert value["versions"]["torch"] == torch.__version__
    assert value["versions"]["python"].startswith(sys.version.split()[0])
    assert value["compute"]["threads"] == torch.get_num_threads()
    assert "OMP_NUM_THREADS=1" in value["compute"]["variables"]
    assert value["memory"]["total"] == f"{psutil.virtual_memory().total / 2**30:.1f} GiB"
    assert value["folders"]["cache"].startswith(str(tmp_path / "cache"))
    assert value["terminal"]["is a terminal"] is False and "app" in named(value, "terminal")


def test_text_has_a_line_for_each_figure(run_cli: RunCli) -> None:
    done = run_cli("doctor", "--environment")
    assert done.code == 0
    for name in ("torch", "BLAS", "cpu features", "keyboard protocol", "cache", "plots"):
        assert any(line.split("  ")[1].strip() == name for line in done.out.splitlines() if "  " in line), name


def test_packages_that_are_missing_or_too_old_are_needed(run_cli: RunCli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "requires", lambda name: ["no-such-package>=1,<2", "psutil>=999", "rich>=1"])
    missing = named(report(run_cli, code=1), "versions")
    assert set(missing) == {"no-such-package", "psutil"}
    assert all(entry["needed"] and entry["fix"] for entry in missing.values())


def test_torch_that_cannot_be_imported_is_needed(run_cli: RunCli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    value = report(run_cli, code=1)
    assert named(value, "compute")["torch"]["needed"] and not value["works"]
    assert value["extras"], "the sections after it are complete"


def test_extras_that_are_missing_are_named_with_the_command_that_gets_them(
    run_cli: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = ["psutil>=6,<8", "no-such-package>=1,<2; extra == 'plots'", 'psutil>=6; extra == "sweep"']
    monkeypatch.setattr(metadata, "requires", lambda name: lines)
    value = report(run_cli)
    assert value["extras"]["plots"] is False and value["extras"]["sweep"] is True
    assert named(value, "extras")["plots"]["fix"].endswith('"tui-lab[plots]"')


def test_folder_of_runs_that_cannot_be_written_is_needed(
    run_cli: RunCli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tests may run as root, who can write to every folder."""
    monkeypatch.setattr("os.access", lambda path, mode: Path(path) != tmp_path / "closed")
    (tmp_path / "closed").mkdir()
    monkeypatch.setenv("TUI_LAB_RUNS", str(tmp_path / "closed" / "runs"))
    assert named(report(run_cli, code=1), "folders")["runs"]["needed"]


def test_something_to_diagnose_is_refused(cli_error: CliError) -> None:
    assert cli_error("doctor", "--environment", "reverse").problems[0].code == "conflict"


@pytest.mark.parametrize(
    ("version", "is_met"),
    [("2.13.0+cpu", True), ("2.14.0.dev20261101", True), ("3.0", False), ("2.10.9", False), ("of 2026", False)],
)
def test_nightly_and_local_versions_count(version: str, is_met: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "version", lambda name: version)
    assert versions.is_met(Requirement("torch>=2.11,<3")) is is_met


def test_every_extra_of_users_has_a_purpose() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8"))["project"]
    for_developers = {"dev", "docs", "peers", "browser", "audit", "litgpt"}
    assert set(extras.PURPOSES) == set(project["optional-dependencies"]) - {"all"} - for_developers


@pytest.mark.parametrize(
    ("mark", "command"),
    [
        ("pipx_metadata.json", "pipx runpip tui-lab install"),
        ("uv-receipt.toml", "uv pip install --python"),
        ("other", "pip install"),
    ],
)
def test_command_for_an_extra_is_that_of_the_installer(
    mark: str, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / mark).touch()
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    assert extras.install_command("sweep").startswith(command)


@pytest.mark.parametrize(
    ("features", "expected"),
    [
        ([], "fp32 (emulated: bf16, fp16)"),
        (["avx2", "avx512_f", "avx512_bf16"], "fp32, bf16 (emulated: fp16)"),
        (["amx_tile", "amx_bf16", "avx512_fp16"], "fp32, bf16, fp16"),
        (["neon", "fp16_arith"], "fp32, fp16 (emulated: bf16)"),
    ],
)
def test_precisions_follow_from_the_features(features: list[str], expected: str) -> None:
    assert compute.precisions(features) == expected


def test_features_agree_with_the_kernel() -> None:
    """Linux lists them in /proc/cpuinfo, under names without the underscore before a letter of AVX-512."""
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.exists() or "flags" not in (text := cpuinfo.read_text("utf-8")):
        pytest.skip("no flags in /proc/cpuinfo")
    flags = set(text.partition("flags")[2].partition("\n")[0].split())
    of_kernel = {"avx2": "avx2", "avx512_f": "avx512f", "avx512_bf16": "avx512_bf16", "amx_tile": "amx_tile"}
    expected = {feature for feature, name in of_kernel.items() if name in flags}
    assert expected == set(of_kernel).intersection(compute.cpu_features())


@pytest.mark.parametrize(("text", "cores"), [("200000 100000\n", 2.0), ("50000 100000\n", 0.5), ("max 100000\n", None)])
def test_quota_of_a_container_is_read(text: str, cores: float | None, tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text(text, "ascii")
    assert compute.cpu_quota(tmp_path / "cpu.max") == cores
    assert compute.cpu_quota(tmp_path / "none") is None


@pytest.mark.parametrize(("text", "limit"), [("2147483648\n", 2**31), ("max\n", None), (f"{2**63 - 4096}\n", None)])
def test_memory_limit_of_a_container_is_read(text: str, limit: int | None, tmp_path: Path) -> None:
    (tmp_path / "limit").write_text(text, "ascii")
    assert storage.memory_limit((tmp_path / "none", tmp_path / "limit")) == limit
    assert storage.memory_limit((tmp_path / "none",)) is None


def test_plugins_are_listed_with_their_state(run_cli: RunCli, install: Install) -> None:
    install("lab-sums", "1.0", SUMS, tasks="sums = lab_sums:make\ntext = lab_sums:make")
    install("lab-bad", "2.0", "import no_such_module", checks="rows = lab_bad:check", watchers="sums = lab_bad:Watcher")
    value = report(run_cli)
    assert value["plug-ins"] == {
        "task sums": "lab-sums 1.0, works",
        "task text": "lab-sums 1.0, does not work",
        "check rows": "lab-bad 2.0, does not work",
        "watcher sums": "lab-bad 2.0, does not work",
    }
    missing = named(value, "plug-ins")
    assert set(missing) == {"task text", "check rows", "watcher sums"} and value["works"]
    assert "no_such_module" in missing["check rows"]["message"] and "lab-bad" in missing["check rows"]["fix"]
    assert "tui-lab itself" in missing["task text"]["message"]

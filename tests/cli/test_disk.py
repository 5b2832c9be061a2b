"""A disk that is full, read-only or gone under `tui-lab run`: exit 3 with the path, and resuming loses nothing."""

import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.test_signals import fingerprint, losses
from tests.command_line import RunCli
from tests.process import TINY
from tui_lab.core import events as ev
from tui_lab.core.runs.folder import Run
from tui_lab.core.runs.lock import in_use
from tui_lab.core.training import checkpoint as ckpt

SMALLER = tuple(f"--set={key}" for key in ("data.n_digits=5", "model.n_heads=2", "model.d_head=4", "model.context=5"))
"""A checkpoint whose largest file is 8 kB, so that the event log outgrows it within fifty steps."""
SMALL_RUN = ("run", "reverse", *TINY, *SMALLER, "--set", "train.eval_every=7", "--set", "train.checkpoint_every=5")
RUN, ENDLESS = (*SMALL_RUN, "--steps", "90"), (*SMALL_RUN, "--steps", "1000000")
LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
sys.argv = ["tui-lab", *sys.argv[2:]]
from tui_lab.cli.main import main
main()
"""


def limited(size: int, folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run the program with a limit on the size of files, which fails like a full disk, but at a known byte."""
    # Coverage would write a file too.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    return subprocess.run(
        [sys.executable, "-c", LIMITED, str(size), *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        # Python would keep compiled modules that were cut off.
        env={**environment, "PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONDONTWRITEBYTECODE": "1"},
    )


@pytest.fixture
def uninterrupted(run_cli: RunCli, tmp_path: Path) -> Path:
    assert run_cli(*RUN, "--out", "uninterrupted", "--quiet").code == 0
    return tmp_path / "uninterrupted"


def steps_of(run: Path) -> list[float]:
    return losses((run / "events.jsonl").read_text("utf-8").splitlines())


@pytest.mark.slow
@pytest.mark.parametrize("size", [10_000, 13_000])
def test_a_full_disk_stops_the_run_which_resumes_to_the_same_end(
    size: int, run_cli: RunCli, tmp_path: Path, uninterrupted: Path
) -> None:
    done = limited(size, tmp_path, *RUN, "--out", "full", "--quiet")
    assert done.returncode == 3 and "Traceback" not in done.stderr, done.stderr
    assert "events.jsonl: File too large; free some disk space" in done.stderr
    assert "tui-lab run --resume full" in done.stderr
    run = Run(tmp_path / "full")
    assert ckpt.load(run.latest()).progress.step > 0 and list(run.events())
    assert (run.path / "events.jsonl").read_bytes().endswith(b"\n"), "the last line is complete"
    assert run_cli("run", "--resume", "full", "--quiet").code == 0
    assert fingerprint(run.path) == fingerprint(uninterrupted)
    recorded, whole = steps_of(run.path), steps_of(uninterrupted)
    # The step whose line did not fit is in the saved weights but not in the event log.
    assert recorded == [loss for loss in whole if loss in recorded] and len(whole) - len(recorded) <= 1
    assert not list(run.path.rglob(".writing-*"))


@pytest.mark.slow
def test_a_checkpoint_that_does_not_fit_is_exit_3(run_cli: RunCli, tmp_path: Path) -> None:
    """The files of a checkpoint are too large; the event log is not."""
    done = limited(2_500, tmp_path, "run", "reverse", *TINY, "--steps", "4", "--out", "full", "--quiet")
    assert done.returncode == 3 and "Traceback" not in done.stderr
    assert "checkpoint not saved" in done.stderr and "File too large; free some disk space" in done.stderr
    assert run_cli("run", "--resume", "full", "--quiet").code == 0, "without a checkpoint it starts again"
    assert len(steps_of(tmp_path / "full")) == 4


def mounted(folder: Path, mount: str, *arguments: str, after: str = "true") -> "subprocess.CompletedProcess[str]":
    """Run the program in a mount namespace of its own; the command `after` runs there too."""
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("this machine does not allow mounts")
    script = f'{mount} && "$0" -m tui_lab "$@"; code=$?; {after}; exit $code'
    return subprocess.run(
        ["unshare", "-rm", "sh", "-c", script, sys.executable, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "NO_COLOR": "1"},
    )


@pytest.mark.slow
@pytest.mark.parametrize("kilobytes", [64, 128])
def test_a_small_disk_fills_up(kilobytes: int, tmp_path: Path) -> None:
    (tmp_path / "small").mkdir()
    done = mounted(
        tmp_path,
        f"mount -t tmpfs -o size={kilobytes}k none small",
        *ENDLESS,
        "--out",
        "small/run",
        "--quiet",
        after="cp -r small kept",
    )
    assert done.returncode == 3 and "Traceback" not in done.stderr, done.stderr
    assert "No space left on device; free some disk space" in done.stderr
    run = Run(tmp_path / "kept" / "run")
    assert ckpt.load(run.latest()).progress.step > 0 and list(run.events())
    assert not list(run.checkpoints.glob(".writing-*"))


READ_ONLY = "mount --bind uninterrupted uninterrupted && mount -o remount,ro,bind uninterrupted"


@pytest.mark.slow
def test_resume_in_a_read_only_folder_is_exit_2(tmp_path: Path, uninterrupted: Path) -> None:
    resumed = mounted(tmp_path, READ_ONLY, "run", "--resume", "uninterrupted", "--steps", "100")
    assert resumed.returncode == 2 and "Traceback" not in resumed.stderr
    assert "uninterrupted: this folder is not writable: Read-only file system" in resumed.stderr


@pytest.mark.slow
def test_a_read_only_folder_can_be_read(tmp_path: Path, uninterrupted: Path) -> None:
    new = mounted(tmp_path, READ_ONLY, *RUN, "--out", "uninterrupted/within")
    assert new.returncode == 2 and "cannot create a run here: Read-only file system" in new.stderr
    for reads in (
        ["runs", "show", "uninterrupted"],
        ["generate", "uninterrupted", "--prompt", "1", "--max-new-tokens", "1"],
    ):
        assert mounted(tmp_path, READ_ONLY, *reads).returncode == 0


def test_no_space_at_all_is_exit_2_before_training(run_cli: RunCli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # Python would keep a module that was cut off.
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, limits[1]))
    try:
        done = run_cli(*RUN, "--out", "full")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert done.code == 2 and done.err.splitlines()[-1].startswith("tui-lab: full: ")
    assert "File too large" in done.err


def test_second_process_is_refused_and_a_deleted_folder_is_exit_3(
    run_cli: RunCli, command: list[str], tmp_path: Path
) -> None:
    with subprocess.Popen(
        [*command, *ENDLESS, "--out", "mine", "--json"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        for line in process.stdout:
            if json.loads(line)["event"] == ev.Saved.kind:
                break
        second = run_cli("run", "--resume", "mine")
        readers = [
            run_cli("runs", "show", "mine"),
            run_cli("generate", "mine", "--prompt", "123", "--max-new-tokens", "2"),
        ]
        shutil.rmtree(tmp_path / "mine", ignore_errors=True)
        record = json.loads(process.stdout.readlines()[-1])
        stderr = process.stderr.read()
    assert second.code == 2
    assert f"mine: this run is in use (process {process.pid} on " in second.err
    assert "tui-lab run reverse --set" in second.err and f"kill {process.pid}" in second.err
    assert [done.code for done in readers] == [0, 0], [done.err for done in readers]
    assert process.returncode == 3 and "Traceback" not in stderr
    assert "restore the folder" in stderr and "tui-lab run --resume mine" in stderr
    assert record["event"] == "summary" and record["steps"] >= 5
    assert in_use(tmp_path / "mine") is None, "the lock ends with its process"

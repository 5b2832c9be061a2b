"""`tui-lab sweep`: stopped, killed, joined and resumed; exit codes and results."""

import json
import os
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.command_line import RunCli
from tests.process import TINY, Cli
from tui_lab.core.inference.load_model import load_model
from tui_lab.core.runs.folder import Run
from tui_lab.core.runs.sweep import folder as sweeps

TINY_SWEEP = ("sweep", "reverse", *TINY, "--set", "train.batch_size=4", "--set", "train.eval_every=0")


def objects(stdout: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stdout.splitlines()]


@pytest.mark.slow
def test_trials_are_run_folders_and_failures_are_rows(run_cli: RunCli, tmp_path: Path) -> None:
    done = run_cli(
        *TINY_SWEEP,
        "--over",
        "optim.lr=0.01,0.02",
        "--over",
        "model.dropout=0.0,1.0,1.5",
        "--steps",
        "4",
        "--jobs",
        "2",
        "--out",
        "s",
        "--json",
    )
    assert done.code == 0 and done.err == ""
    *ended, last = objects(done.out)
    assert last["event"] == "sweep" and sorted(row["number"] for row in ended) == list(range(6))
    assert Counter(row["state"] for row in last["trials"]) == {"done": 4, "failed": 2}
    ranks = [row["value"] for row in last["trials"][:4]]
    assert ranks == sorted(ranks) and all(abs(value) < float("inf") for value in ranks), "dropout 1.0 gives no NaN"
    assert all("model.dropout = 1.5" in row["message"] for row in last["trials"][4:])
    for row in last["trials"][:4]:
        run = Run(tmp_path / row["run"])
        summary = run.summary()
        assert (
            run.config().model.dropout == row["values"]["model.dropout"]
            and summary is not None
            and summary.to_json() == row["summary"]
        )
        assert load_model(run)[0].n_vocab == run.tokenizer().n_vocab
    assert [Path(path).name for path in last["pictures"]] == ["overlay.svg", "overlay.png"]
    assert "lr=0.01 dropout=0.0" in (tmp_path / "s" / "overlay.svg").read_text("utf-8")


@pytest.mark.slow
def test_a_trial_equals_a_run_of_its_config(cli: Cli, tmp_path: Path) -> None:
    """The second trial of a process, after one with other settings."""
    over = ("--over", "model.dropout=0.5,0.1")
    cli(*TINY_SWEEP, *over, "--steps", "5", "--jobs", "1", "--out", "s", "--quiet")
    row = sweeps.read_sweep(tmp_path / "s").rows()[1]
    (tmp_path / "same.toml").write_bytes((row.run / "config.toml").read_bytes())
    cli("run", "same.toml", "--out", "alone", "--quiet")
    assert losses(row.run) == losses(tmp_path / "alone") and len(losses(row.run)) == 5


def losses(run: Path) -> list[float]:
    records = objects((run / "events.jsonl").read_text("utf-8"))
    return [record["loss"] for record in records if record["event"] == "step"]


@pytest.mark.slow
def test_a_check_that_does_not_hold_is_exit_1(cli: Cli, tmp_path: Path) -> None:
    """The check claims that training with a learning rate is no better than without one."""
    (tmp_path / "a.toml").write_text(
        """
        [data]\ntask = "reverse"\ntokenizer = "digits"\nlength = 3\n[model]\nd_model = 8\nn_layers = 1\nd_ff = 8
        [train]\nsteps = 40\nbatch_size = 64\neval_every = 0\neval_examples = 8\nthreads = 1
        [sweep]\nmetric = "train_loss"\nseeds = 2\n[sweep.over]\n"optim.lr" = [0.0, 0.01]
        [sweep.check]\nkey = "optim.lr"\nbest = 0.0\nworst = 0.01
        """,
        "utf-8",
    )
    done = cli("sweep", "a.toml", "--out", "s")
    assert done.returncode == 1 and "broken: lr 0.01 learns better than 0.0: train loss" in done.stdout
    assert "train loss over 2 seeds" in done.stdout and "curves: s/overlay.svg" in done.stdout
    assert "[4/4] trial" in done.stderr
    again = cli("sweep", "--resume", "s", "--json")
    [results] = objects(again.stdout)
    assert again.returncode == 1 and results["event"] == "sweep", "nothing is trained twice"
    assert [one["seeds"] for one in results["groups"]] == [2, 2]
    assert [one["values"] for one in results["groups"]] == [{"optim.lr": 0.01}, {"optim.lr": 0.0}]
    assert results["verdict"]["holds"] is False


@pytest.mark.slow
def test_pruned_trials_are_stopped(cli: Cli) -> None:
    # Three that learn, and once they have ended, one that cannot.
    done = cli(
        "sweep",
        "reverse",
        *TINY,
        "--set",
        "train.eval_every=5",
        "--over",
        "optim.lr=0.03,0.02,0.01,0.0",
        "--prune",
        "--jobs",
        "1",
        "--steps",
        "60",
        "--out",
        "s",
        "--json",
    )
    rows = {row["number"]: row for row in objects(done.stdout)[-1]["trials"]}
    assert [rows[i]["state"] for i in range(4)] == ["done", "done", "done", "pruned"]
    assert rows[3]["summary"]["steps"] < 60 and "stopped by the pruner" in rows[3]["message"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["sweep"], "PRESET"),
        (["sweep", "reverse"], "--over"),
        (["sweep", "reverse", "--over", "optim.lrr=1,2"], "did you mean 'optim.lr'?"),
        (["sweep", "reverse", "--over", "model.dropout=2"], "model.dropout = 2"),
        (["sweep", "--resume", "nothing"], "nothing"),
        (["sweep", "--resume", "x", "--seeds", "2"], "--resume"),
        (["run", "dropout-sweep"], "tui-lab sweep dropout-sweep"),
    ],
)
def test_bad_usage_is_exit_2_and_leaves_nothing_behind(
    arguments: list[str], words: str, run_cli: RunCli, tmp_path: Path
) -> None:
    result = run_cli(*arguments)
    assert result.code == 2 and words in result.err
    assert not (tmp_path / "runs").exists()


LONG = (*TINY_SWEEP, "--set", "train.checkpoint_every=50", "--over", "train.seed=1,2,3", "--steps", "600")


def until(folder: Path, trial: int, step: int, process: "subprocess.Popen[str]") -> None:
    """Wait for a trial to have a checkpoint and to be at `step` or later."""
    while process.poll() is None:
        found = list(folder.glob(f"trials/{trial:04d}-*/checkpoints/step-*"))
        record = list(folder.glob(f"trials/{trial:04d}-*/events.jsonl"))
        if found and record and record[0].read_bytes().count(b'"step",') >= step:
            return
        time.sleep(0.02)
    raise AssertionError(process.stderr.read() if process.stderr else "")


def started(command: list[str], arguments: tuple[str, ...], cwd: Path) -> "subprocess.Popen[str]":
    environment = {**os.environ, "NO_COLOR": "1"}
    return subprocess.Popen(
        [*command, *arguments], cwd=cwd, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def all_losses(folder: Path) -> list[list[float]]:
    rows = sweeps.read_sweep(folder).rows()
    assert [row.state for row in rows] == ["done"] * len(rows)
    return [losses(row.run) for row in rows]


@pytest.mark.slow
def test_an_interrupted_killed_and_joined_sweep_gives_the_same_losses(
    cli: Cli, command: list[str], tmp_path: Path
) -> None:
    assert cli(*LONG, "--jobs", "1", "--out", "whole", "--quiet").returncode == 0
    folder = tmp_path / "s"

    # Ctrl-C in the first trial.
    with started(command, (*LONG, "--jobs", "1", "--out", "s"), tmp_path) as process:
        until(folder, 0, 60, process)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate()
    assert process.returncode == 130 and "tui-lab sweep --resume s" in stderr
    assert [row.state for row in sweeps.read_sweep(folder).rows()] == ["interrupted", "waiting", "waiting"]

    # Killed in the second, all processes at once.
    with started(command, ("sweep", "--resume", "s"), tmp_path) as process:
        until(folder, 1, 60, process)
        killed = sweeps.find_sweep(str(folder))
        process.send_signal(signal.SIGSTOP)
        workers = psutil.Process(process.pid).children(recursive=True)
        for worker in workers:
            worker.kill()
        process.kill()
        process.communicate()
    assert workers
    # The system takes the lock from a process once its last thread is gone.
    with killed.lock(sweeps.trial_lock(1)).acquire(timeout=60):
        pass
    states = [row.state for row in killed.rows()]
    assert states[0] == "done" and "running" not in states and states[2] == "waiting"

    # Joined by a second process.
    with (
        started(command, (*LONG, "--jobs", "1", "--out", "s"), tmp_path) as one,
        started(command, ("sweep", "--resume", "s", "--json"), tmp_path) as two,
    ):
        ends = [process.communicate() for process in (one, two)]
    assert (one.returncode, two.returncode) == (0, 0), ends
    assert all_losses(folder) == all_losses(tmp_path / "whole")
    assert not list(folder.rglob(".writing-*"))


@pytest.mark.slow
def test_a_trial_that_kills_two_processes_fails(cli: Cli, tmp_path: Path) -> None:
    """The model kills its process if dropout is high, like one that takes all memory.

    Also, trials of a user's model do not share a process, where the first would leave the state of its modules.
    """
    (tmp_path / "state.py").write_text("models = 0\n", "utf-8")
    (tmp_path / "deadly.py").write_text(
        "import os, torch, state\nfrom torch import nn\n"
        "class Model(nn.Module):\n"
        "    def __init__(self, n_vocab, dropout=0.0):\n"
        "        super().__init__()\n"
        "        self.tokens = nn.Embedding(n_vocab, n_vocab)\n"
        "        if dropout > 0.5: os.kill(os.getpid(), 9)\n"
        "        assert state.models == 0\n"
        "        state.models += 1\n"
        "    def forward(self, x): return self.tokens(x)\n",
        "utf-8",
    )
    done = cli(
        *TINY_SWEEP,
        "--set",
        "model.source=deadly.py:Model",
        "--over",
        "model.dropout=0.0,0.1,0.9",
        "--steps",
        "2",
        "--jobs",
        "1",
        "--out",
        "s",
        "--json",
    )
    *first, last = objects(done.stdout)[-1]["trials"]
    assert done.returncode == 0 and [row["state"] for row in (*first, last)] == ["done", "done", "failed"], first
    assert "killed by SIGKILL" in last["message"] and "out of memory?" in last["message"]


@pytest.mark.slow
def test_the_dropout_preset_holds(cli: Cli, tmp_path: Path) -> None:
    done = cli("sweep", "dropout-sweep", "--out", "s", "--json")
    last = objects(done.stdout)[-1]
    assert done.returncode == 0 and last["verdict"]["holds"] is True
    by_rate = {row["values"]["model.dropout"]: row["value"] for row in last["trials"]}
    assert by_rate[0.0] < 0.05 < 1.0 < by_rate[1.0]

"""`torchrun --no-python tui-lab run …`: one rank writes and prints, and no rank waits for a dead one."""

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.cli.documents import GUIDE, README, shell_lines
from tests.core.tiny import losses, tiny, trainer
from tests.process import TINY
from tui_lab.cli import distributed_run
from tui_lab.core import events as ev
from tui_lab.core.runs import open_run
from tui_lab.core.runs.open_run import OpenRun
from tui_lab.core.training.trainer import Trainer
from tui_lab.util.errors import ConfigError
from tui_lab.util.exit_codes import INTERRUPTED, of_signal

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "tui_lab"]
STEPS = ("train.steps=4", "train.batch_size=7", "train.eval_every=2", "optim.grad_clip=0.5")
LONG = ("run", "reverse", *TINY, "--steps", "1000000", "--set", "train.checkpoint_every=50", "--json", "--out", "r")


def train(opened: OpenRun) -> list[float]:
    return losses(opened.run.record(opened.trainer.events()))


def records(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.slow
def test_a_run_resumes_with_another_number_of_processes(tmp_path: Path) -> None:
    """One process, then two, then one: the losses are those of one process all the way."""
    whole = trainer(*STEPS, "train.steps=11")
    expected = losses(whole.events())
    folder = tmp_path / "r"
    resumed = train(open_run.start("r", tiny(*STEPS), folder))
    two = subprocess.run(
        [*TORCHRUN, "run", "--resume", "r", "--steps", "8", "--json"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert two.returncode == 0, two.stderr
    lines = records(two.stdout)
    assert lines[0]["event"] == "started" and lines[0]["device"] == "cpu × 2 processes"
    assert [line["event"] for line in lines].count("summary") == 1, "one rank prints"
    resumed += [line["loss"] for line in lines if line["event"] == "step"]
    last = open_run.resume(str(folder), 11)
    resumed += train(last)
    assert resumed == pytest.approx(expected, rel=1e-4) and len(resumed) == 11
    assert last.trainer.progress.tokens == whole.progress.tokens
    assert_near(last.trainer, whole)
    steps = [event for event in last.run.events() if isinstance(event, ev.StepDone)]
    assert [event.step for event in steps] == list(range(1, 12)), "one rank writes"


def assert_near(actual: Trainer, expected: Trainer) -> None:
    for name, weights in actual.model.state_dict().items():
        assert (weights - expected.model.state_dict()[name]).abs().max() < 1e-4, name


@contextmanager
def ranks(folder: Path, *arguments: str, **variables: str) -> Iterator[list["subprocess.Popen[str]"]]:
    """Two processes as torchrun starts them, without the agent that would end one after the other."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), **variables}
    with ExitStack() as stack:
        processes = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-m", "tui_lab", *arguments],
                    cwd=folder,
                    text=True,
                    env={**environment, "RANK": str(rank), "LOCAL_RANK": str(rank)},
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                )
            )
            for rank in range(2)
        ]
        try:
            yield processes
        finally:
            for process in processes:
                process.kill()


def wait_for_step(process: "subprocess.Popen[str]", step: int) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if json.loads(line)["step"] >= step:
            return
    raise AssertionError(process.stderr and process.stderr.read())


@pytest.mark.slow
@pytest.mark.parametrize("dies", [0, 1])
def test_when_a_rank_dies_the_other_exits_with_code_3(dies: int, tmp_path: Path) -> None:
    with ranks(tmp_path, *LONG) as processes:
        wait_for_step(processes[0], 60)
        processes[dies].kill()
        _, stderr = processes[1 - dies].communicate()
    assert processes[1 - dies].returncode == 3
    assert "training failed: " in stderr and "Traceback" not in stderr
    if dies == 1:
        assert list((tmp_path / "r" / "checkpoints").glob("step-*")), "the last good weights are saved"
    assert list((tmp_path / "r" / "checkpoints").glob("step-*/model.safetensors"))


@pytest.mark.slow
def test_a_rank_that_hangs_times_out(tmp_path: Path) -> None:
    with ranks(tmp_path, *LONG, TUI_LAB_RANK_TIMEOUT="30") as processes:
        wait_for_step(processes[0], 60)
        processes[1].send_signal(signal.SIGSTOP)
        _, stderr = processes[0].communicate()
        assert processes[0].returncode == 3 and "training failed: " in stderr and "Traceback" not in stderr


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_signal_to_any_rank_saves_and_stops_all(rank: int, tmp_path: Path) -> None:
    with ranks(tmp_path, *LONG) as processes:
        wait_for_step(processes[0], 20)
        processes[rank].send_signal(signal.SIGTERM)
        out, _ = processes[0].communicate()
        processes[1].communicate()
    assert records(out)[-1]["reason"] == "stopped"
    codes = [process.returncode for process in processes]
    assert codes == [of_signal(signal.SIGTERM) if each == rank else INTERRUPTED for each in (0, 1)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("run", "revers"), 2, "did you mean 'reverse'?"),
        (("run", "reverse", *TINY, "--set", "train.backend=nccl"), 2, "train.backend"),
        (("run", "reverse", *TINY, "--steps", "2", "--require", "train_loss<0"), 1, "train_loss < 0"),
    ],
)
def test_an_error_is_printed_once(arguments: tuple[str, ...], code: int, words: str, tmp_path: Path) -> None:
    with ranks(tmp_path, *arguments) as processes:
        stderr = [process.communicate()[1] for process in processes]
    assert processes[0].returncode == code and stderr[0].count(words) == 1
    assert processes[1].returncode == (2 if code == 2 else 0) and stderr[1] == ""


def group_with(*others: dict[str, str]) -> Any:
    """A group whose other ranks send `others`."""

    class Group:
        rank = 0
        size = 1 + len(others)

        def all_gather(self, own: bytes) -> list[bytes]:
            message = json.loads(own)
            return [own, *(json.dumps(message | other).encode() for other in others)]

    return Group()


@pytest.mark.parametrize(
    "other", [{"data": "of another text"}, {"problem": "data.path = 'a.txt': no such file"}], ids=["data", "problem"]
)
def test_ranks_that_read_other_data_do_not_train(other: dict[str, str]) -> None:
    with pytest.raises(ConfigError) as caught:
        distributed_run._check_agreement(group_with(other, {}), trainer())
    [problem] = caught.value.problems
    assert str(problem).startswith("rank 1: ") and other.get("problem", "") in str(problem)


def test_ranks_that_agree_train() -> None:
    distributed_run._check_agreement(group_with({}, {}), trainer())


SCRIPT = """
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

dist.init_process_group("gloo")
model = DistributedDataParallel(torch.nn.Linear(2, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(2):
    optimizer.zero_grad()
    model(torch.ones(4, 2)).mean().backward()
    optimizer.step()
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_every_torchrun_line_of_the_guide_works(tmp_path: Path) -> None:
    lines = [line for page in (README, *GUIDE) for line in shell_lines(page) if line.startswith("torchrun ")]
    (tmp_path / "train.py").write_text(SCRIPT, "utf-8")
    assert {"train.py" in line for line in lines} == {True, False}
    for line in lines:
        has_script = "train.py" in line
        words = shlex.split(line)[1:] + ([] if has_script else [*TINY, "--steps", "2"])
        done = subprocess.run(
            [sys.executable, "-m", "torch.distributed.run", *words],
            cwd=tmp_path,
            env=os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            check=False,
        )
        expected = "recorded 2 steps" if has_script else "exact match"
        assert done.returncode == 0 and expected in done.stdout + done.stderr, done.stderr


@pytest.mark.slow
def test_scale_measures_what_several_processes_cost(tmp_path: Path) -> None:
    done = subprocess.run(
        [*TORCHRUN, "bench", "scale", "--preset", "reverse", "--rounds", "3", "--json"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert figures["processes"] == 2 and figures["examples_per_process"] == 32 and figures["all_reduce_ms"] > 0

"""Several processes train as one does. What they do is in ranks_child, which is started once for all tests."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock
from hypothesis import given
from hypothesis import strategies as st
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from tests.core.tiny import tiny
from tests.core.training import ranks_child
from tui_lab.core import commands as cmd
from tui_lab.core.config.schema import Config
from tui_lab.core.training import distributed
from tui_lab.core.training.distributed import backend_for, is_distributed
from tui_lab.data.loader import Loader
from tui_lab.data.tasks.reverse import reverse_task
from tui_lab.util.errors import ConfigError, TrainingError

ROOT = Path(__file__).parents[3]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]


def start_ranks(size: int, folder: Path, *, with_torchrun: bool) -> "subprocess.CompletedProcess[str]":
    """Train with `size` ranks. Without torchrun, this process has the store at which they meet, as torchrun has it."""
    module = ["-m", "tests.core.training.ranks_child", str(folder)]
    if with_torchrun:
        command = [*TORCHRUN, str(size), *module]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port), "TORCHELASTIC_USE_AGENT_STORE": "True"}
    command = [sys.executable, *module, str(size)]
    environment = {**os.environ, **meeting}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def launched(size: int, factory: pytest.TempPathFactory, *, with_torchrun: bool) -> list[dict[str, Any]]:
    """What each of `size` ranks saw; started once, also where several pytest workers ask."""
    folder = factory.getbasetemp() / f"ranks-{size}"
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = factory.getbasetemp().parent / f"ranks-{size}"
    with FileLock(folder.with_suffix(".lock")):
        if not folder.exists():
            folder.mkdir()
            done = start_ranks(size, folder, with_torchrun=with_torchrun)
            assert done.returncode == 0, done.stderr
    return [json.loads((folder / f"{rank}.json").read_text("utf-8")) for rank in range(size)]


@pytest.fixture(scope="module")
def alone() -> dict[str, Any]:
    results: dict[str, Any] = json.loads(json.dumps(ranks_child.alone()))
    return results


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return launched(2, tmp_path_factory, with_torchrun=False)


def assert_equal(actual: Any, expected: Any, name: str) -> None:
    """Numbers within what the order of a sum may change, all else to the letter."""
    kinds = [event["event"] for event in actual["events"]]
    assert kinds == [event["event"] for event in expected["events"]], name
    for ours, theirs in zip(actual["events"], expected["events"], strict=True):
        assert ours.keys() == theirs.keys()
        for key, value in theirs.items():
            near = pytest.approx(value, rel=2e-4, abs=2e-5) if isinstance(value, float) else value
            assert ours[key] == near, (name, theirs["event"], theirs["step"], key)


SAME = (*ranks_child.SCENARIOS, "steered")


def test_two_processes_train_like_one(alone: dict[str, Any], two: list[dict[str, Any]]) -> None:
    for name in SAME:
        assert_equal(two[0][name], alone[name], name)
    assert sum(len(alone[name]["events"]) for name in SAME) > 150


def test_rows_of_all_processes_are_kept_in_the_order_of_the_batch(
    alone: dict[str, Any], two: list[dict[str, Any]]
) -> None:
    for name in SAME:
        steps = [event["step"] for event in two[0][name]["events"] if event["event"] == "step"]
        assert [step for step, *_ in two[0][name]["rows"]] == steps
        for ours, theirs in zip(two[0][name]["rows"], alone[name]["rows"], strict=True):
            step, ids, sums, targets = theirs
            assert ours == [step, ids, pytest.approx(sums, rel=2e-4, abs=2e-5), targets], name


def same_on_all(results: dict[str, Any]) -> dict[str, Any]:
    """What all ranks see; the rows are kept by the first alone."""
    return {
        name: {key: part for key, part in seen.items() if key != "rows"} if isinstance(seen, dict) else seen
        for name, seen in results.items()
    }


def test_ranks_are_bitwise_equal(two: list[dict[str, Any]]) -> None:
    assert same_on_all(two[0]) == same_on_all(two[1])
    assert not two[1]["even"]["rows"]


def test_stop_on_one_rank_stops_all(alone: dict[str, Any], two: list[dict[str, Any]]) -> None:
    for results in two:
        assert results["stopped"]["events"][-1] == {
            "event": "stopped",
            "step": 3,
            "reason": "stopped",
            "restored": None,
        }


def test_threads_of_the_group_end_with_it(two: list[dict[str, Any]]) -> None:
    assert [results["threads left"] for results in two] == [[], []]


def test_dropout_differs_by_rank_and_repeats(alone: dict[str, Any], two: list[dict[str, Any]]) -> None:
    assert two[0]["dropout"] == two[0]["dropout again"] != alone["dropout"]
    assert len({parallel_seed for parallel_seed in map(dropout_seed_of, range(4))}) == 4


def dropout_seed_of(rank: int) -> int:
    from tui_lab.core.training.train_step import dropout_seed

    return dropout_seed(0, 5, rank)


def test_loss_that_is_not_finite_fails_on_all_ranks(two: list[dict[str, Any]]) -> None:
    assert [results["not finite"]["events"][-1]["event"] for results in two] == ["failed", "failed"]


@pytest.mark.slow
@pytest.mark.parametrize("size", [3, 5])
def test_any_number_of_processes_trains_like_one(
    size: int, alone: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    ranks = launched(size, tmp_path_factory, with_torchrun=True)
    assert all(same_on_all(other) == same_on_all(ranks[0]) for other in ranks)
    for name in SAME:
        assert_equal(ranks[0][name], alone[name], name)


@given(st.integers(1, 40), st.integers(1, 9), st.integers(0, 30), st.sampled_from(["epoch", "once", "off"]))
def test_shares_partition_the_batch(batch_size: int, ranks: int, step: int, shuffle: Any) -> None:
    whole = Loader(reverse_task(length=3, n_digits=5, val_fraction=0.1).train, batch_size, 0, shuffle)
    shares = [Loader(whole.dataset, batch_size, 0, shuffle, share=(rank, ranks)) for rank in range(ranks)]
    drawn = [share.batch(step) for share in shares]
    assert sorted(id for batch in drawn for id in batch.ids) == sorted(whole.batch(step).ids)
    assert max(len(b.ids) for b in drawn) - min(len(b.ids) for b in drawn) <= 1
    assert all(share.draw_at(step) == whole.draw_at(step) for share in shares)
    rows = {tuple(x) + tuple(y) for batch in drawn for x, y in zip(batch.x, batch.y, strict=True)}
    assert rows == {tuple(x) + tuple(y) for x, y in zip(whole.batch(step).x, whole.batch(step).y, strict=True)}


def test_commands_are_sent_as_text_and_inspections_are_not() -> None:
    sent: list[cmd.Command] = [
        cmd.Pause(),
        cmd.Step(3),
        cmd.Set("optim.lr", 0.5),
        cmd.Set("data.shuffle", "off"),
        cmd.Resume(),
        cmd.Evaluate(),
        cmd.Save(),
        cmd.Stop(),
        cmd.Scale("optim.lr", 2.0),
        cmd.Shift("model.dropout", 0.05),
        cmd.Cycle("data.overfit", (0, 1)),
        cmd.Undo(),
    ]
    assert distributed._from_bytes(distributed._to_bytes(sent)) == sent
    look, copy = distributed._from_bytes(distributed._to_bytes([cmd.Inspect(print), cmd.Snapshot(print)]))
    assert isinstance(look, cmd.Inspect) and isinstance(copy, cmd.Inspect)
    look.look(None)  # type: ignore[arg-type]


def test_commands_are_shared_except_inspect_and_snapshot() -> None:
    from typing import get_args

    kinds = set(get_args(cmd.Command))
    assert kinds - set(cmd.SENDABLE.values()) == {cmd.Inspect, cmd.Snapshot}


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, False),
        ({"RANK": "0", "WORLD_SIZE": "1"}, False),
        ({"RANK": "1", "WORLD_SIZE": "2"}, True),
        ({"WORLD_SIZE": "2"}, False),
        ({"RANK": "0", "WORLD_SIZE": "many"}, False),
    ],
)
def test_is_distributed_follows_the_variables_of_torchrun(
    variables: dict[str, str], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert is_distributed() is expected


def backend(name: str) -> Config:
    return tiny(f"train.backend={name}")


def test_backend_fits_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert [backend_for(backend(name), cpu) for name in ("auto", "gloo")] == ["gloo", "gloo"]
    assert [backend_for(backend(name), cuda) for name in ("auto", "nccl", "gloo")] == ["nccl", "nccl", "gloo"]
    for name, device in (("nccl", cpu), ("auto", torch.device("mps"))):
        with pytest.raises(ConfigError) as caught:
            backend_for(backend(name), device)
        assert caught.value.code == "unavailable"
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(ConfigError) as caught:
        backend_for(backend("auto"), cuda)
    assert (caught.value.code, caught.value.problems[0].key) == ("unavailable", "train.backend")


@pytest.mark.parametrize(
    ("error", "is_lost"),
    [
        (RuntimeError("[gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:9"), True),
        (RuntimeError("Timed out waiting 1000ms for recv operation to complete"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), False),
    ],
)
def test_lost_connection_becomes_a_training_error(error: RuntimeError, is_lost: bool) -> None:
    with pytest.raises(RuntimeError) as caught, distributed._translate_errors(1):
        raise error
    assert isinstance(caught.value, TrainingError) is is_lost
    assert ("another process of this run has ended" in str(caught.value)) is is_lost
    assert "pair.cc" not in str(caught.value)

"""What tests/core/training/test_distributed.py does with one process and compares with several:

    torchrun --nproc-per-node N -m tests.core.training.ranks_child FOLDER

trains every scenario; each rank writes what it saw to FOLDER/RANK.json. With N after FOLDER and without torchrun, the
ranks are forks of one process, so that torch is imported once.
"""

import importlib
import json
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.core.tiny import trainer
from tui_lab.core import commands as cmd
from tui_lab.core import events as ev
from tui_lab.core.training.distributed import SINGLE_PROCESS, DistributedGroup, ProcessGroup, process_group
from tui_lab.core.training.reproducibility import fingerprint
from tui_lab.core.training.trainer import Trainer
from tui_lab.core.training.update_rows import KeepRows, UpdateRows

EVALUATED = ("train.eval_every=3", "optim.grad_clip=0.5")
SCENARIOS: dict[str, tuple[str, ...]] = {
    "even": ("train.batch_size=16", *EVALUATED),
    "uneven": ("train.batch_size=5", *EVALUATED),
    "fewer rows than ranks": ("data.overfit=1", *EVALUATED),
    "in parts": ("train.batch_size=7", "train.accumulate=3"),
    "muon": ("train.batch_size=6", "optim.name=muon"),
    "patience": ("optim.lr=0.5", "train.eval_every=1", "train.patience=2", "train.steps=40"),
    "target": ("train.target_loss=1.4", "train.steps=100"),
    "checkpoints": ("train.checkpoint_every=2", "train.eval_every=2"),
    "mean over rows": ('faults=["wrong_divisor"]',),
    "sum": ('faults=["summed_loss"]', "optim.lr=1e-4", "optim.grad_clip=1"),
    "unused parameters": ('faults=["no_positions"]',),
    "frozen layer": ('faults=["frozen_layer"]',),
    "swapped rows": ('faults=["swapped_rows"]',),
    "not finite": ('faults=["not_finite"]',),
}
STEERED = ("train.steps=14", "train.batch_size=6", "train.eval_every=4")


def observe(training: Trainer, steer: Callable[[Trainer, ev.Event], None] = lambda training, event: None) -> Any:
    """The events without what depends on clocks and processes, and a fingerprint of the last weights."""
    records = []
    for event in training.events():
        steer(training, event)
        record = event.to_json()
        for name in ("seconds", "tokens_per_s", "data_seconds", "dead_units", "device", "message", "faults"):
            record.pop(name, None)
        if (by_layer := record.get("by_layer")) is not None:
            record["by_layer"] = {name: value for name, value in by_layer.items() if name != "dead_units"}
        if isinstance(event, ev.NonFinite):  # Its ranges are those of one rank.
            origin = event.origin
            record["origin"] = [origin.module, origin.cause, origin.n_batch, [row.example for row in origin.rows]]
        if event.kind != "saved":
            records.append(record)
    return {"events": records, "weights": fingerprint(*(p.detach() for p in training.model.parameters()))}


def train(group: ProcessGroup, *overrides: str, steer: Callable[[Trainer, ev.Event], None] | None = None) -> Any:
    kept: list[UpdateRows] = []
    keep_rows = _keeper(kept) if group.rank == 0 else None
    training = trainer(*overrides, save=lambda checkpoint: "somewhere", group=group, keep_rows=keep_rows)
    observed = observe(training, steer or (lambda training, event: None))
    rows = [[u.step, u.ids.tolist(), u.sums.tolist(), u.targets.tolist()] for u in kept]
    return {**observed, "rows": rows}


def _keeper(kept: list[UpdateRows]) -> KeepRows:
    def keep(rows: UpdateRows) -> None:
        kept.append(rows)

    return keep


def steered(group: ProcessGroup) -> Any:
    """Commands of rank 0, looks at the model among them; the other ranks ask for nothing."""
    looks: list[int] = []

    def steer(training: Trainer, event: ev.Event) -> None:
        if group.rank == 0 and isinstance(event, ev.StepDone | ev.Paused):
            for command in _wishes(event, looks):
                training.commands.put(command)

    return train(group, *STEERED, steer=steer)


def _wishes(event: ev.Event, looks: list[int]) -> list[cmd.Command]:
    look = cmd.Inspect(lambda model: looks.append(model.n_vocab))
    copy = cmd.Snapshot(lambda weights, whose: looks.append(len(weights)))
    match event:
        case ev.StepDone(step=2):
            return [cmd.Set("optim.lr", 0.002), look, cmd.Set("train.batch_size", 3)]
        case ev.StepDone(step=4):
            return [look, copy]  # While it evaluates.
        case ev.StepDone(step=5):
            return [cmd.Pause(), copy]
        case ev.Paused(step=5):
            return [cmd.Step(2)]
        case ev.Paused(step=7):
            return [cmd.Set("data.shuffle", "once"), cmd.Evaluate(), cmd.Resume(), cmd.Save()]
        case ev.StepDone(step=9):
            return [cmd.Set("optim.lr", -1), cmd.Set("data.overfit", 2), copy, look]
        case ev.StepDone(step=14):
            return [look]  # At the end.
        case _:
            return []


def stopped_by_the_last(group: ProcessGroup) -> Any:
    """Stop reaches the last rank only, like a signal from a scheduler that takes one machine away."""

    def steer(training: Trainer, event: ev.Event) -> None:
        if group.rank == group.size - 1 and event.kind == "step" and event.step == 3:
            training.commands.put(cmd.Stop())

    return train(group, steer=steer)


def random_dropout(group: ProcessGroup) -> Any:
    return train(group, "model.dropout=0.4", "train.batch_size=6")


def everything(group: ProcessGroup) -> dict[str, Any]:
    return {
        **{name: train(group, *overrides) for name, overrides in SCENARIOS.items()},
        "steered": steered(group),
        "stopped": stopped_by_the_last(group),
        "dropout": random_dropout(group),
        "dropout again": random_dropout(group),
    }


def alone() -> dict[str, Any]:
    return everything(SINGLE_PROCESS)


def threads_of_the_group() -> list[str]:
    """The names of this process's threads that carry what the ranks tell each other, where the system lists them."""
    names = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
    return [name for name in names if "gloo" in name]


def train_as_rank(folder: Path) -> None:
    """Train everything as the rank that the environment names."""
    with process_group() as group:
        assert isinstance(group, DistributedGroup)
        results = everything(group)
    results["threads left"] = threads_of_the_group()
    (folder / f"{group.rank}.json").write_text(json.dumps(results), "utf-8")


def fork_ranks(size: int, folder: Path) -> list[int]:
    """Train in `size` processes. Returns their exit codes."""
    importlib.import_module("torch._dynamo")  # DistributedDataParallel would import it in each.
    pids = []
    for rank in range(size):
        pid = os.fork()
        if pid == 0:
            os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size)}
            code = 1
            try:
                train_as_rank(folder)
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        pids.append(pid)
    return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]


if __name__ == "__main__":
    target = Path(sys.argv[1])
    if sys.argv[2:]:
        sys.exit(max(map(abs, fork_ranks(int(sys.argv[2]), target))))
    train_as_rank(target)

"""The cost of several processes: bytes and seconds of the gradients' all_reduce, compared with those of a step.

torchrun --no-python --nproc-per-node 2 tui-lab bench scale
"""

import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist

from tui_lab.bench.train import PLAIN
from tui_lab.core.config import settings
from tui_lab.core.config.schema import Config
from tui_lab.core.kernels.autotune import with_kernels
from tui_lab.core.kernels.process_tuning import keep_freed_memory
from tui_lab.core.training.distributed import DistributedGroup, backend_for, is_distributed, process_group
from tui_lab.core.training.setup import set_up
from tui_lab.core.training.task_factory import build_task
from tui_lab.core.training.trainer import Trainer
from tui_lab.data.dataset import Task
from tui_lab.runs.machine import machine
from tui_lab.util.errors import ConfigError
from tui_lab.util.strict_json import dumps

BUCKET_BYTES = 25 * 2**20
"""The size of DistributedDataParallel's gradient buckets."""
BACKWARD = 2 / 3
"""Fraction of a step in the backward pass (Kaplan et al. 2020, section 2.1); an all_reduce can overlap with it."""
LINKS_GBIT = (10, 25, 100)
NODES = (2, 8, 64)
WARM_UP = 3


def bench_scale(preset: str, rounds: int) -> dict[str, Any] | None:
    """Return the figures on rank 0, None on the others. Raises ConfigError unless torchrun started the processes."""
    if not is_distributed():
        raise ConfigError.of(
            "missing",
            "needs several processes; start it with torchrun --no-python --nproc-per-node 2 tui-lab bench scale",
            key="bench scale",
        )
    keep_freed_memory()
    with process_group() as group:
        config, task = _config_and_task(group, preset)
        trainer = Trainer(set_up(config, task), group=group)
        backend = backend_for(config, trainer.device)
        group.attach(trainer.model, trainer.hooks, trainer.config)
        parameters = sum(p.numel() for p in trainer.model.parameters())
        times = _in_turn(
            {
                "step": lambda: trainer.train_step(),
                "step_without_all_reduce": lambda: _step_without_all_reduce(group, trainer),
                "all_reduce": _gradient_all_reduce(parameters, trainer.device),
                "small_all_reduce": lambda: group.all_reduce(torch.zeros(2)),
            },
            rounds,
        )
        if group.rank:
            return None
        return {
            "machine": machine(),
            "preset": preset,
            "processes": group.size,
            "backend": backend,
            "examples_per_process": -(-trainer.loader.drawn // group.size),
            **figures(parameters, group.size, times),
        }


def _config_and_task(group: DistributedGroup, preset: str) -> tuple[Config, Task]:
    """Return the same config on all ranks. Rank 0 measures which kernels are fastest while the others wait."""
    config = settings.load(preset, PLAIN)
    task = build_task(config)
    if group.rank == 0:
        config = with_kernels(config, task.tokenizer.n_vocab)
    return settings.build(json.loads(group.broadcast(dumps(config.model_dump(mode="json")).encode()))), task


def _step_without_all_reduce(group: DistributedGroup, trainer: Trainer) -> None:
    with group.no_sync():
        trainer.train_step()


def _gradient_all_reduce(parameters: int, device: torch.device) -> Callable[[], None]:
    """Return a function that sums as many numbers as there are gradients, in buckets of DDP's size."""
    buckets = torch.zeros(parameters, device=device).split(BUCKET_BYTES // 4)  # type: ignore[no-untyped-call]

    def reduce() -> None:
        for bucket in buckets:
            dist.all_reduce(bucket)

    return reduce


def _in_turn(actions: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in actions}
    for turn in range(WARM_UP + rounds):
        for name, action in actions.items():
            dist.barrier()
            start = time.perf_counter()
            action()
            if turn >= WARM_UP:
                times[name].append(time.perf_counter() - start)
    return times


def figures(parameters: int, size: int, times: dict[str, list[float]]) -> dict[str, Any]:
    """Return medians and quartiles in ms, and what a ring all_reduce would cost on other links."""
    medians = {name: statistics.median(seconds) for name, seconds in times.items()}
    compute = medians["step_without_all_reduce"]
    return {
        "parameters": parameters,
        "gradient_mb": 4 * parameters / 1e6,
        "sent_by_each_mb": ring_bytes(parameters, size) / 1e6,
        **{f"{name}_ms": 1e3 * value for name, value in medians.items()},
        "quartiles_ms": {
            name: [1e3 * q for q in statistics.quantiles(seconds, n=4)[::2]] for name, seconds in times.items()
        },
        "not_hidden_ms": 1e3 * max(0.0, medians["step"] - compute),
        "links": {
            f"{gbit} Gbit/s": {f"{n} nodes": link(ring_bytes(parameters, n), gbit, compute) for n in NODES}
            for gbit in LINKS_GBIT
        },
    }


def ring_bytes(parameters: int, size: int) -> float:
    """Return the bytes that each of `size` processes sends for one all_reduce of float32 gradients.

    2 (n − 1) / n times their bytes (Patarasuk and Yuan 2009, "Bandwidth optimal all-reduce algorithms").
    """
    return 2 * (size - 1) / size * 4 * parameters


def link(bytes_sent: float, gbit: float, step_seconds: float) -> dict[str, float]:
    """Return the ms on the wire and the efficiency: a step's time without communication over that with it.

    efficiency_nothing_hidden: communication does not overlap. efficiency_hidden: it overlaps with the backward pass.
    """
    wire = 8 * bytes_sent / (gbit * 1e9)
    exposed = max(0.0, wire - BACKWARD * step_seconds)
    return {
        "wire_ms": 1e3 * wire,
        "efficiency_nothing_hidden": step_seconds / (step_seconds + wire),
        "efficiency_hidden": step_seconds / (step_seconds + exposed),
    }

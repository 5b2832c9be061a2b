"""What several processes cost: the bytes and seconds of bringing gradients together, beside those of a step.

torchrun --nproc-per-node 2 -m tui_lab bench scale
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
from tui_lab.core.trainer import Trainer
from tui_lab.core.training.distributed import DistributedGroup, backend_for, is_distributed, process_group
from tui_lab.core.training.setup import set_up
from tui_lab.core.training.task_factory import build_task
from tui_lab.data.dataset import Task
from tui_lab.runs.machine import machine
from tui_lab.util.errors import ConfigError
from tui_lab.util.strict_json import dumps

BUCKET_BYTES = 25 * 2**20
"""DistributedDataParallel's own size of what is reduced at once."""
BACKWARD = 2 / 3
"""Share of a step that the backward pass takes (Kaplan et al. 2020, section 2.1), behind which a reduction can hide."""
LINKS_GBIT = (10, 25, 100)
NODES = (2, 8, 64)
WARM_UP = 3


def bench_scale(preset: str, rounds: int) -> dict[str, Any] | None:
    """The figures, on rank 0; None on the others. Raises ConfigError unless torchrun started several processes."""
    if not is_distributed():
        raise ConfigError(["bench scale: start it as torchrun --nproc-per-node 2 -m tui_lab bench scale"])
    keep_freed_memory()
    with process_group() as group:
        config, task = _prepared(group, preset)
        trainer = Trainer(set_up(config, task), group=group)
        backend = backend_for(config, trainer.device)
        group.attach(trainer.model, trainer.hooks, trainer.config)
        parameters = sum(p.numel() for p in trainer.model.parameters())
        times = _by_turns(
            {
                "together": lambda: trainer.train_step(),
                "apart": lambda: _step_apart(group, trainer),
                "reduction": _reduction(parameters, trainer.device),
                "agreement": lambda: group.all_reduce(torch.zeros(2)),
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
            "examples_a_process": -(-trainer.loader.drawn // group.size),
            **figures(parameters, group.size, times),
        }


def _prepared(group: DistributedGroup, preset: str) -> tuple[Config, Task]:
    """The same config on all ranks; its kernels are measured by rank 0 while the others wait."""
    config = settings.load(preset, PLAIN)
    task = build_task(config)
    if group.rank == 0:
        config = with_kernels(config, task.tokenizer.n_vocab)
    return settings.build(json.loads(group.broadcast(dumps(config.model_dump(mode="json")).encode()))), task


def _step_apart(group: DistributedGroup, trainer: Trainer) -> None:
    with group.no_sync():
        trainer.train_step()


def _reduction(parameters: int, device: torch.device) -> Callable[[], None]:
    """The sum of as many numbers as there are gradients, in DDP's portions, with nothing else to do."""
    portions = torch.zeros(parameters, device=device).split(BUCKET_BYTES // 4)  # type: ignore[no-untyped-call]

    def reduce() -> None:
        for portion in portions:
            dist.all_reduce(portion)

    return reduce


def _by_turns(actions: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in actions}
    for turn in range(WARM_UP + rounds):
        for name, action in actions.items():
            dist.barrier()
            began = time.perf_counter()
            action()
            if turn >= WARM_UP:
                times[name].append(time.perf_counter() - began)
    return times


def figures(parameters: int, size: int, times: dict[str, list[float]]) -> dict[str, Any]:
    """Medians and quartiles in ms, and the arithmetic of a ring on other links."""
    middle = {name: statistics.median(found) for name, found in times.items()}
    step, alone = middle["together"], middle["apart"]
    return {
        "parameters": parameters,
        "gradient_mb": 4 * parameters / 1e6,
        "sent_by_each_mb": ring_bytes(parameters, size) / 1e6,
        **{f"{name}_ms": 1e3 * value for name, value in middle.items()},
        "quartiles_ms": {name: [1e3 * q for q in statistics.quantiles(found, n=4)[::2]]
                         for name, found in times.items()},
        "not_hidden_ms": 1e3 * max(0.0, step - alone),
        "links": {
            f"{gbit} Gbit/s": {
                f"{n} nodes": link(ring_bytes(parameters, n), gbit, alone) for n in NODES
            } for gbit in LINKS_GBIT
        },
    }  # fmt: skip


def ring_bytes(parameters: int, size: int) -> float:
    """What each of `size` processes sends for one sum of float32 gradients: 2 (n − 1) / n times their bytes
    (Patarasuk and Yuan 2009, "Bandwidth optimal all-reduce algorithms")."""
    return 2 * (size - 1) / size * 4 * parameters


def link(bytes_sent: float, gbit: float, step_seconds: float) -> dict[str, float]:
    """ms on the wire, and the efficiency: step over step and what of the wire does not hide, from none of it hidden to
    all that fits behind the backward pass."""
    wire = 8 * bytes_sent / (gbit * 1e9)
    exposed = max(0.0, wire - BACKWARD * step_seconds)
    return {
        "wire_ms": 1e3 * wire,
        "efficiency_nothing_hidden": step_seconds / (step_seconds + wire),
        "efficiency_hidden": step_seconds / (step_seconds + exposed),
    }

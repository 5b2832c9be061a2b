"""Steps/s of ours and of others at the same shape, in one process and by turns, beside the machine's own limit."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tui_lab.bench.baselines import MAKERS, Absent, Contender, ours
from tui_lab.core.config import settings
from tui_lab.core.config.schema import Config
from tui_lab.core.kernels.linear import onednn_available, onednn_linear
from tui_lab.core.kernels.process_tuning import keep_freed_memory
from tui_lab.core.trainer import Trainer
from tui_lab.core.training.setup import set_up
from tui_lab.core.training.task_factory import build_task
from tui_lab.runs.machine import machine

GEMM_SIZE = 2048
ROUNDS = {"pseudo-socrates": 15, "reverse": 300}
WARM_UP = {"pseudo-socrates": 2, "reverse": 20}
PLAIN = ("train.steps=1000000", "optim.schedule=constant", "optim.warmup_steps=0", "optim.grad_clip=0")
"""As a loop of ten lines does it."""
ONLY = {"reverse": ("nanoGPT-style, eager", "nanoGPT-style, compiled")}
"""Who is asked, where not all are: a model that is all dispatch says nothing of other shapes."""
AGREE_STEPS, AGREE_WITHIN = 5, 2e-3
"""Over the first updates the same mathematics gives losses within this share of each other; then rounding grows."""


def flops(config: Config, n_vocab: int) -> float:
    """Floating-point operations of one update: 2 for a multiplication and its addition, and the way back twice the way
    there (Kaplan et al. 2020, section 2.1), with the products of attention over all T² pairs."""
    m = config.model
    rows, inner = config.train.batch_size * m.context, m.n_heads * m.d_head
    layer = 4 * m.d_model * inner + 2 * m.d_model * m.d_ff + 2 * m.context * inner  # Multiplications a row.
    return 6.0 * rows * (m.n_layers * layer + m.d_model * n_vocab)


def gemm_limits() -> dict[str, Callable[[], Tensor]]:
    """The square float32 product by each library that torch has."""
    a, b = torch.randn(GEMM_SIZE, GEMM_SIZE), torch.randn(GEMM_SIZE, GEMM_SIZE)
    found: dict[str, Callable[[], Tensor]] = {"blas": lambda: a @ b}
    if onednn_available():
        found["onednn"] = lambda: onednn_linear(a, b)
    return found


def bench_train(preset: str = "pseudo-socrates", rounds: int | None = None) -> dict[str, Any]:
    """All figures of one preset as JSON values; a contender that is not here is named with the reason."""
    keep_freed_memory()
    config = settings.load(preset, PLAIN)
    task = build_task(config)
    trainer = Trainer(set_up(config, task))
    contenders, absent = [ours(trainer)], {}
    for name, make in MAKERS.items():
        if preset in ONLY and name not in ONLY[preset]:
            continue
        try:
            contenders.append(make(config, task.tokenizer.n_vocab))
        except Absent as error:
            absent[name] = str(error)
    try:
        times, losses, limits = _interleave(
            contenders, trainer, rounds or ROUNDS.get(preset, 15), WARM_UP.get(preset, 3)
        )
    finally:
        for contender in contenders:
            contender.close()
    work = flops(config, task.tokenizer.n_vocab)
    best = max(limits, key=lambda name: limits[name])
    kernels = getattr(trainer.model, "kernels", None)
    return {
        "machine": machine(),
        "preset": preset,
        "batch": [config.train.batch_size, task.train.length],
        "gflop_a_step": work / 1e9,
        "gemm_gflop_per_s": limits,
        "limit": best,
        "kernels": str(kernels),
        "rows": {c.name: _row(c, times, work, limits[best]) for c in contenders},
        "losses_agree": _agreement(contenders, losses),
        "absent": absent,
    }


def _row(contender: Contender, times: dict[str, list[float]], work: float, limit: float) -> dict[str, Any]:
    own, first = times[contender.name], times["tui-lab"]
    low, _, high = statistics.quantiles(own, n=4)
    return {
        "parameters": contender.parameters,
        "median_s": statistics.median(own),
        "quartiles_s": [low, high],
        "ours_is_faster": statistics.median(b / a for a, b in zip(first, own, strict=True)),
        "share_of_limit": work / statistics.median(own) / 1e9 / limit,
        "same_mathematics": contender.same,
    }


def _interleave(
    contenders: list[Contender], trainer: Trainer, rounds: int, warm_up: int
) -> tuple[dict[str, list[float]], dict[str, list[float]], dict[str, float]]:
    """Seconds and losses a step of each, and GFLOP/s of each library, all by turns on the batches of our own loader."""
    times: dict[str, list[float]] = {c.name: [] for c in contenders}
    losses: dict[str, list[float]] = {c.name: [] for c in contenders}
    products = gemm_limits()
    speeds: dict[str, list[float]] = {name: [] for name in products}
    for turn in range(warm_up + rounds):
        batch = trainer.loader.batch(trainer.step)
        x, y = torch.from_numpy(batch.x), torch.from_numpy(batch.y)
        for contender in contenders if turn % 2 else reversed(contenders):
            began = time.perf_counter()
            losses[contender.name].append(contender.step(x, y))
            if turn >= warm_up:
                times[contender.name].append(time.perf_counter() - began)
        if turn % max(1, rounds // 15) == 0:
            for name, product in products.items():
                began = time.perf_counter()
                product()
                speeds[name].append(2 * GEMM_SIZE**3 / (time.perf_counter() - began) / 1e9)
    return times, losses, {name: statistics.median(found[1:] or found) for name, found in speeds.items()}


def _agreement(contenders: list[Contender], losses: dict[str, list[float]]) -> dict[str, Any]:
    """Whether those that compute the same say the same over the first updates, warm-up included."""
    reference = losses["tui-lab"][:AGREE_STEPS]
    differences = {
        c.name: max(abs(a - b) / abs(a) for a, b in zip(reference, losses[c.name][:AGREE_STEPS], strict=True))
        for c in contenders
        if c.same and c.name != "tui-lab"
    }
    return {name: {"largest_relative_difference": d, "agree": d <= AGREE_WITHIN} for name, d in differences.items()}

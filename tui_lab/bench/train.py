"""Compare steps/s with other transformers of the same shape, and with the machine's GEMM limit.

All are measured in float32 and, for a large shape on a processor that multiplies bfloat16, under bfloat16 autocast as
well, so that each is seen at its best. They run in one process and in turn, so that other load on the machine affects
them alike.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tui_lab.bench.baselines import FACTORIES, Absent, Baseline, ours
from tui_lab.core.config import settings
from tui_lab.core.config.schema import Config
from tui_lab.core.kernels.linear import onednn_available, onednn_has_bf16, onednn_linear
from tui_lab.core.kernels.precision import Precision
from tui_lab.core.kernels.process_tuning import keep_freed_memory
from tui_lab.core.training.setup import set_up
from tui_lab.core.training.task_factory import build_task
from tui_lab.core.training.trainer import Trainer
from tui_lab.runs.machine import machine

GEMM_SIZE = 2048
ROUNDS = {"pseudo-socrates": 15, "reverse": 300}
WARM_UP = {"pseudo-socrates": 2, "reverse": 20}
PLAIN = ("train.steps=1000000", "optim.schedule=constant", "optim.warmup_steps=0", "optim.grad_clip=0")
"""A plain training loop, which is what the baselines have."""
ONLY = {"reverse": ("nanoGPT-style, eager", "nanoGPT-style, compiled")}
"""Presets with fewer baselines. `reverse` is so small that most of its time is Python's."""
AGREE_STEPS = 5
AGREE_WITHIN: dict[Precision, float] = {"fp32": 2e-3, "bf16": 1e-2}
"""The largest relative difference of equal models over the first AGREE_STEPS steps; later, rounding errors grow."""


def flops(config: Config, n_vocab: int) -> float:
    """Return the floating-point operations of one step (Kaplan et al. 2020, section 2.1).

    A multiplication with its addition counts 2, the backward pass twice the forward pass; attention is counted over
    all T² pairs.
    """
    m = config.model
    rows = config.train.batch_size * m.context
    inner = m.n_heads * m.d_head
    layer = 4 * m.d_model * inner + 2 * m.d_model * m.d_ff + 2 * m.context * inner  # Multiplications per row.
    return 6.0 * rows * (m.n_layers * layer + m.d_model * n_vocab)


def gemm_limits() -> dict[str, Callable[[], Tensor]]:
    """Return, for each library that torch has, a function that computes a square float32 product."""
    a = torch.randn(GEMM_SIZE, GEMM_SIZE)
    b = torch.randn(GEMM_SIZE, GEMM_SIZE)
    products: dict[str, Callable[[], Tensor]] = {"blas": lambda: a @ b}
    if onednn_available():
        products["onednn"] = lambda: onednn_linear(a, b)
    return products


def bench_train(preset: str = "pseudo-socrates", rounds: int | None = None) -> dict[str, Any]:
    """Return the figures of one preset as JSON values. `absent` gives the reason for each baseline not measured."""
    keep_freed_memory()
    config = settings.load(preset, PLAIN)
    task = build_task(config)
    precisions = precisions_of(preset)
    trainers = [Trainer(set_up(settings.changed(config, "train.precision", p), task)) for p in precisions]
    trainer = trainers[0]
    baselines = [ours(each) for each in trainers]
    peers, absent = _peers(preset, config, task.tokenizer.n_vocab, precisions)
    baselines += peers
    try:
        times, losses, limits = _interleave(
            baselines, trainer, rounds or ROUNDS.get(preset, 15), WARM_UP.get(preset, 3)
        )
    finally:
        for baseline in baselines:
            baseline.close()
    work = flops(config, task.tokenizer.n_vocab)
    best = max(limits, key=lambda name: limits[name])
    return {
        "machine": machine(),
        "preset": preset,
        "batch": [config.train.batch_size, task.train.length],
        "gflop_a_step": work / 1e9,
        "gemm_gflop_per_s": limits,
        "limit": best,
        "kernels": [str(getattr(each.model, "kernels", None)) for each in trainers],
        "rows": {c.name: _row(c, times, work, limits[best]) for c in baselines},
        "losses_agree": _agreement(baselines, losses),
        "absent": absent,
    }


def precisions_of(preset: str) -> tuple[Precision, ...]:
    """Return the precisions to measure: where bfloat16 has no kernel, it is slower than float32 for everybody."""
    return ("fp32", "bf16") if preset not in ONLY and onednn_has_bf16() else ("fp32",)


def _peers(
    preset: str, config: Config, n_vocab: int, precisions: tuple[Precision, ...]
) -> tuple[list[Baseline], dict[str, str]]:
    """Return the baselines in each precision, and the reason for each that is absent."""
    peers = []
    absent = {}
    for name, make in FACTORIES.items():
        if preset in ONLY and name not in ONLY[preset]:
            continue
        try:
            peers += [make(config, n_vocab, precision) for precision in precisions]
        except Absent as error:
            absent[name] = str(error)
    return peers, absent


def _row(baseline: Baseline, times: dict[str, list[float]], work: float, limit: float) -> dict[str, Any]:
    own = times[baseline.name]
    ours = {name: seconds for name, seconds in times.items() if name.startswith("tui-lab")}
    low, _, high = statistics.quantiles(own, n=4)
    return {
        "parameters": baseline.parameters,
        "median_s": statistics.median(own),
        "quartiles_s": [low, high],
        "ours_is_faster": {
            name: statistics.median(b / a for a, b in zip(seconds, own, strict=True)) for name, seconds in ours.items()
        },
        "share_of_limit": work / statistics.median(own) / 1e9 / limit,
        "same_mathematics": baseline.same,
    }


def _interleave(
    baselines: list[Baseline], trainer: Trainer, rounds: int, warm_up: int
) -> tuple[dict[str, list[float]], dict[str, list[float]], dict[str, float]]:
    """Return seconds and losses per step of each baseline and GFLOP/s of each library, measured in turn."""
    times: dict[str, list[float]] = {c.name: [] for c in baselines}
    losses: dict[str, list[float]] = {c.name: [] for c in baselines}
    products = gemm_limits()
    speeds: dict[str, list[float]] = {name: [] for name in products}
    for turn in range(warm_up + rounds):
        batch = trainer.loader.batch(trainer.step)
        x, y = torch.from_numpy(batch.x), torch.from_numpy(batch.y)
        for baseline in baselines if turn % 2 else reversed(baselines):
            start = time.perf_counter()
            losses[baseline.name].append(baseline.step(x, y))
            if turn >= warm_up:
                times[baseline.name].append(time.perf_counter() - start)
        if turn % max(1, rounds // 15) == 0:
            for name, product in products.items():
                start = time.perf_counter()
                product()
                speeds[name].append(2 * GEMM_SIZE**3 / (time.perf_counter() - start) / 1e9)
    # The first product of each library includes its own setup.
    return times, losses, {name: statistics.median(values[1:] or values) for name, values in speeds.items()}


def _agreement(baselines: list[Baseline], losses: dict[str, list[float]]) -> dict[str, Any]:
    """Compare the losses of equivalent models over the first steps, warm-up included."""
    reference = losses["tui-lab"][:AGREE_STEPS]
    differences = {
        c.name: max(abs(a - b) / abs(a) for a, b in zip(reference, losses[c.name][:AGREE_STEPS], strict=True))
        for c in baselines
        if c.same and c.name != "tui-lab"
    }
    within = {baseline.name: AGREE_WITHIN[baseline.precision] for baseline in baselines}
    return {name: {"largest_relative_difference": d, "agree": d <= within[name]} for name, d in differences.items()}

"""Simulated runs: losses that fall exponentially, with noise from step to step and an offset for each seed."""

import numpy as np
from numpy.typing import NDArray

from tui_lab.core import events as ev
from tui_lab.core.runs.compare import Course, MeasuredValue

Array = NDArray[np.float64]
SEED_NOISE = 0.02
"""Standard deviation of the losses of different seeds, in nats."""


def noise(rng: np.random.Generator, shape: tuple[int, ...], rho: float, std: float) -> Array:
    """Autoregressive noise of first order along the last axis, with this standard deviation."""
    values = rng.normal(0.0, std, shape)
    for t in range(1, shape[-1]):
        values[..., t] = rho * values[..., t - 1] + np.sqrt(1 - rho**2) * values[..., t]
    return values


def evaluations(
    rng: np.random.Generator, n_pairs: int, n_seeds: int, difference: float = 0.0, seed_noise: float = SEED_NOISE
) -> list[list[Course]]:
    """For each pair a group of runs with 10 evaluations; their validation losses end at 1 + difference.

    The noise has the variance of `seed_noise`: half of it is of the seed, half of each evaluation (rho = 0.5).
    """
    steps = 100.0 * np.arange(1, 11)
    std = seed_noise / np.sqrt(2)
    losses: Array = 1 + difference + 2 * np.exp(-steps / 200) + rng.normal(0.0, std, (n_pairs, n_seeds, 1))
    losses += noise(rng, (n_pairs, n_seeds, len(steps)), 0.5, std)
    return [[course(steps.tolist(), run) for run in pair] for pair in losses.tolist()]


def course(steps: list[float], losses: list[float]) -> Course:
    """A course with these evaluations, 64 tokens and 10 ms for each step."""
    return Course(
        evaluations=[MeasuredValue(int(s), 64 * int(s), 0.01 * s, x) for s, x in zip(steps, losses, strict=True)]
    )


def trained(losses: Array, lr: float = 0.01) -> Course:
    """A course with these train losses."""
    return Course(steps=[step(i, loss, lr) for i, loss in enumerate(losses.tolist(), 1)])


def step(number: int, loss: float, lr: float = 0.01) -> ev.StepDone:
    return ev.StepDone(
        step=number,
        loss=loss,
        loss_ema=loss,
        lr=lr,
        grad_norm=1.0,
        epoch=0,
        tokens=64 * number,
        seconds=0.01,
        tokens_per_s=6400.0,
    )

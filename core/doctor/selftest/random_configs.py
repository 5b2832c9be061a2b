"""Healthy configs of random shapes, seeds, tasks and optimizers, so that thresholds do not fit the presets alone."""

import random
from typing import Any

from tui_lab.core.config import settings
from tui_lab.core.config.schema import Config

RATES = {"adam": (5e-4, 5e-3), "adamw": (5e-4, 5e-3), "sgd": (0.05, 0.3), "momentum": (0.01, 0.1), "muon": (2e-3, 2e-2)}
"""The range of learning rates that work, for each optimizer."""


def random_config(seed: int, *, task: str | None = None, dropout: bool = False, faults: tuple[str, ...] = ()) -> Config:
    """Draw a small config; the same seed gives the same one. dropout: whether its dropout rate must be above 0."""
    draw = random.Random(seed)
    task = task or draw.choice(["reverse", "text"])
    optimizer = draw.choice(list(RATES))
    low, high = RATES[optimizer]
    tables: dict[str, Any] = {
        "model": {
            "d_model": draw.randint(8, 64),
            "n_layers": draw.randint(1, 5),
            "n_heads": draw.randint(1, 6),
            "d_head": draw.randint(2, 20),
            "d_ff": draw.randint(12, 200),
            "context": draw.randint(33, 80),
            "dropout": round(draw.uniform(0.1, 0.4), 2) if dropout else draw.choice([0.0, 0.0, 0.1]),
        },
        "data": _data(draw, task) | ({"overfit": 0} if "constant_batch" in faults else {}),
        "optim": {
            "name": optimizer,
            "lr": round(low * (high / low) ** draw.random(), 6),
            "weight_decay": draw.choice([0.0, 0.0, 0.01, 0.1]),
            "grad_clip": draw.choice([0.0, 1.0]),
            "warmup_steps": draw.choice([0, 20]),
        },
        "train": {
            "batch_size": draw.randint(2, 24),
            "seed": draw.randrange(2**31),
            "device": "cpu",
            "threads": 1,
        },
        "faults": list(faults),
    }
    return settings.build(tables)


def _data(draw: random.Random, task: str) -> dict[str, Any]:
    common: dict[str, Any] = {
        "task": task,
        "shuffle": draw.choice(["epoch", "once", "off"]),
        "overfit": draw.choice([0, 0, 0, 1, 3]),
        "val_fraction": draw.choice([0.05, 0.1, 0.3]),
    }
    if task == "reverse":
        return common | {"tokenizer": "digits", "length": draw.randint(3, 11), "n_digits": draw.randint(3, 36)}
    tokenizer = draw.choice(["char", "char", "gpt2"])
    return common | {"tokenizer": tokenizer, "vocab": "seen", "stride": draw.choice([1, 1, 7])}

"""Seeds for the generators of a script before its first line, without importing torch or numpy on its behalf."""

import random

from tui_lab.core.watch.process.script_process import when_imported


def seed_generators(seed: int) -> None:
    """Seed Python's generator now, and those of numpy and torch when the script imports them."""
    random.seed(seed)

    def seed_numpy() -> None:
        import numpy as np

        np.random.seed(seed)

    def seed_torch() -> None:
        import torch

        torch.manual_seed(seed)

    when_imported("numpy", seed_numpy)
    when_imported("torch", seed_torch)

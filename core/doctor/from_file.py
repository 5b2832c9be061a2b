"""User code as a case: FILE.py:NAME is a Case, a model, or a function that returns one."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from tui_lab.core.doctor.case import Case
from tui_lab.core.training.optim_without_dynamo import Adam
from tui_lab.core.user_code import import_file
from tui_lab.util.errors import ConfigError

ROWS = 4
TOKENS = 16
"""The size of the random batches that a model without data gets."""


def case_from(source: str, progress: Callable[[str], None] = lambda doing: None) -> Case:
    """Import FILE.py:NAME as a case; `progress` receives what is being done. Raises ConfigError."""
    return as_case(import_file.load(source, {}, progress), source)


def as_case(value: Any, source: str) -> Case:
    """Return a Case unchanged, and a model with random batches of its own vocabulary. Raises ConfigError."""
    if isinstance(value, Case):
        return value
    if not isinstance(value, nn.Module):
        raise ConfigError.of(
            "wrong_type",
            f"this is a {type(value).__name__}",
            value=source,
            allowed="a torch.nn.Module, a Case, or a function that returns one",
        )
    n_vocab = next((m.num_embeddings for m in value.modules() if isinstance(m, nn.Embedding)), None)
    if n_vocab is None:
        raise ConfigError.of(
            "missing", "the model has no nn.Embedding to read its vocabulary size from; pass a Case", value=source
        )

    def batch(step: int) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(step)
        tokens = torch.randint(0, n_vocab, (ROWS, TOKENS + 1), generator=generator)
        return tokens[:, :-1], tokens[:, 1:]

    return Case(value, batch, rule="next_token", optimizer=_adam(value))


def _adam(model: nn.Module) -> torch.optim.Optimizer | None:
    parameters = [p for p in model.parameters() if p.requires_grad]
    return Adam(parameters, lr=1e-3) if parameters else None

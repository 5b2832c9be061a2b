"""A stranger's file as a case of the doctor's."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from tui_lab.core.doctor.case import Case
from tui_lab.core.training.optim_without_dynamo import Adam
from tui_lab.core.user_code import import_file
from tui_lab.util.errors import ConfigError

ROWS, TOKENS = 4, 16
"""Of the random batches that a bare model is given."""


def case_from(source: str, watch: Callable[[str], None] = lambda doing: None) -> Case:
    """The case that FILE.py:NAME gives. Raises ConfigError. `watch` is told what is being done."""
    return case_of(import_file.load(source, {}, watch), source)


def case_of(thing: Any, source: str) -> Case:
    """A Case as it is; a model with random batches of its own vocabulary. Raises ConfigError."""
    if isinstance(thing, Case):
        return thing
    if not isinstance(thing, nn.Module):
        raise ConfigError.of(
            "wrong_type",
            f"gives a {type(thing).__name__}",
            value=source,
            allowed="a torch.nn.Module, a Case, or a function that returns one",
        )
    n_vocab = next((m.num_embeddings for m in thing.modules() if isinstance(m, nn.Embedding)), None)
    if n_vocab is None:
        raise ConfigError.of(
            "missing", "the model has no nn.Embedding to read its vocabulary size from; give a Case", value=source
        )

    def batch(step: int) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(step)
        tokens = torch.randint(0, n_vocab, (ROWS, TOKENS + 1), generator=generator)
        return tokens[:, :-1], tokens[:, 1:]

    return Case(thing, batch, rule="next_token", optimizer=_adam(thing))


def _adam(model: nn.Module) -> torch.optim.Optimizer | None:
    parameters = [p for p in model.parameters() if p.requires_grad]
    return Adam(parameters, lr=1e-3) if parameters else None

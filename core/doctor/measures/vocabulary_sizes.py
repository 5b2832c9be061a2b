"""The sizes of a model's vocabulary: of the embedding that gets the ids, and of the logits."""

import contextlib
from dataclasses import dataclass

import torch

from tui_lab.core.doctor.program.batch import first_rows
from tui_lab.core.doctor.program.once import once_per_target
from tui_lab.core.doctor.program.target import Target, required


@dataclass(frozen=True)
class VocabularySizes:
    """embedding: entries of the embedding that is called with the ids. logits: of each position. None: unknown."""

    embedding: int | None
    logits: int | None


@once_per_target
def vocabulary_sizes(target: Target) -> VocabularySizes:
    """Measure both by one forward pass each. Raises NotApplicable without tokens."""
    return VocabularySizes(_embedding_size(target), _n_logits(target))


def _embedding_size(target: Target) -> int | None:
    """Return the number of entries of the embedding that is called with the ids, or None if there is none."""
    batch = target.batch(0) if target.fixed_shape else first_rows(target.batch(0), 1)
    x = required(target.tokens).x(batch).to(target.device)
    sizes: list[int] = []

    def called(module: torch.nn.Module, inputs: tuple[object, ...]) -> None:
        ids = inputs[0] if inputs else None
        if isinstance(ids, torch.Tensor) and ids.shape == x.shape and torch.equal(ids, x):
            sizes.append(int(module.num_embeddings))  # type: ignore[arg-type]

    embeddings = [m for m in target.model.modules() if isinstance(m, torch.nn.Embedding)]
    handles = [m.register_forward_pre_hook(called) for m in embeddings]
    try:
        # An id outside the embedding raises, but only after the hook was called.
        with target.evaluating(), torch.no_grad(), contextlib.suppress(Exception):
            target.logits_of(batch)
    finally:
        for handle in handles:
            handle.remove()
    return sizes[0] if sizes else None


def _n_logits(target: Target) -> int | None:
    """Return the number of logits for each position, or None if the model fails."""
    tokens = required(target.tokens)
    batch = target.batch(0) if target.fixed_shape else first_rows(target.batch(0), 1)
    with target.evaluating(), torch.no_grad(), contextlib.suppress(Exception):
        return int(target.logits_of(tokens.with_x(batch, torch.zeros_like(tokens.x(batch)))).shape[-1])
    return None

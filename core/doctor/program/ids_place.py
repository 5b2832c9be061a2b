"""Finds which tensor of a program's batches holds the token ids of which the model returns logits."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tui_lab.core.doctor.program.batch import Batch, numbered
from tui_lab.core.doctor.program.calls import ID_KEYS, Call, output_of
from tui_lab.core.doctor.program.nested import tensors_of
from tui_lab.core.doctor.program.tokens import are_ids, logits_in

DECODER_IDS = "decoder_input_ids"
"""The argument by which an encoder-decoder of transformers gets its decoder's ids."""


@dataclass(frozen=True)
class IdsPlace:
    """Which tensor of a user's batch holds the ids of which the model returns logits.

    cut: whether the last position is only a target. flat: whether logits are [positions, V].
    axis: along which the positions lie, if the shapes tell.
    """

    number: int
    cut: bool = False
    flat: bool = False
    axis: int | None = None


def find_ids(model: nn.Module, call: Call, batch: Batch, logits: Tensor) -> IdsPlace | None:
    """Return which tensor of the user's batch holds the ids; None if the output is not logits over tokens."""
    if makes_decoder_ids(model, batch):
        return None
    y = call.targets(batch) if call.targets else None
    candidates = [
        ids
        for number, tensor in enumerate(tensors_of(batch))
        if are_ids(tensor) and (ids := _matched(number, tensor, logits)) is not None and (tensor is not y or ids.cut)
    ]
    if len(candidates) > 1:
        candidates = _by_name(batch, candidates) or _influential(model, call, batch, candidates) or candidates
    # In batches of an encoder-decoder, the decoder's ids come last.
    return candidates[-1] if candidates else None


def _matched(number: int, ids: Tensor, logits: Tensor) -> IdsPlace | None:
    """Compare shapes: is there one row of logits for each id, or for each but those of the last position?"""
    rows, columns = ids.shape
    if logits.dim() == 3:
        shape = tuple(logits.shape[:2])
        if shape == (rows, columns):
            return IdsPlace(number)
        if shape == (rows, columns - 1):
            return IdsPlace(number, cut=True, axis=1)
        return IdsPlace(number, cut=True, axis=0) if shape == (rows - 1, columns) else None
    if logits.dim() == 2 and logits.shape[0] == rows * columns:
        return IdsPlace(number, flat=True)
    return None


def _by_name(batch: Batch, candidates: list[IdsPlace]) -> list[IdsPlace]:
    """Return the candidate whose key says that it holds the ids of the decoder, or of the only input."""
    if not isinstance(batch, Mapping):
        return []
    numbers = {id(tensor): number for number, tensor in enumerate(tensors_of(batch))}
    for key in (DECODER_IDS, "tgt", "trg", *ID_KEYS):
        for ids in candidates:
            if key in batch and numbers.get(id(batch[key])) == ids.number:
                return [ids]
    return []


def _influential(model: nn.Module, call: Call, batch: Batch, candidates: list[IdsPlace]) -> list[IdsPlace]:
    """Return the candidates whose ids change the output."""
    before = logits_in(output_of(model, call.run, batch))
    changed = []
    for ids in candidates:
        others = numbered(batch, lambda number, t, n=ids.number: other_values(t) if number == n else t)  # type: ignore[misc]
        if not torch.equal(before, logits_in(output_of(model, call.run, others))):
            changed.append(ids)
    return changed


def other_values(tensor: Tensor) -> Tensor:
    """Return a tensor that differs everywhere, of ids that occur in it or of numbers of the same size."""
    if tensor.is_floating_point():
        return 0.5 - tensor
    present = torch.unique(tensor)
    if len(present) < 2:
        present = torch.arange(min(int(present[0]), 1), int(present[0]) + 1, device=tensor.device)
    other: Tensor = present[(torch.searchsorted(present, tensor.contiguous()) + 1) % len(present)]
    return other.to(tensor.dtype)


def makes_decoder_ids(model: nn.Module, batch: Batch) -> bool:
    """Return whether the model is an encoder-decoder of transformers that gets labels, and no ids of the decoder."""
    return (
        hasattr(model, "prepare_decoder_input_ids_from_labels")
        and isinstance(batch, Mapping)
        and DECODER_IDS not in batch
        and isinstance(batch.get("labels"), Tensor)
        and are_ids(batch["labels"])
    )

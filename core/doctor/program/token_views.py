"""Makes the view of ids, targets and logits for batches of any form."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tui_lab.core.doctor.program.batch import Batch, nth_tensor, numbered
from tui_lab.core.doctor.program.calls import Call, Targets
from tui_lab.core.doctor.program.ids_place import DECODER_IDS, IdsPlace, makes_decoder_ids
from tui_lab.core.doctor.program.layout import Layout
from tui_lab.core.doctor.program.nested import mapped, tensors_of
from tui_lab.core.doctor.program.tokens import PAIRS, TokenView, are_ids, is_pair_of_ids, logits_in


@dataclass(frozen=True)
class TensorView:
    """A view of batches by the numbers of their tensors.

    ids: of the ids [B, T]. cut: whether their last column is only a target, so that they are [B, T + 1].
    targets: of the targets [B, T]; None: they are the next ids if `cut`, or else unknown.
    """

    ids: int
    cut: bool
    targets: int | None

    def view(self, targets: Targets | None = None) -> TokenView:
        """Return the view; `targets` are used if the batch has no tensor of them."""
        has_targets = self.cut or self.targets is not None
        return TokenView(self.x, self.y if has_targets else targets, self.with_x, logits_in, self.shortened)

    def x(self, batch: Batch) -> Tensor:
        ids = nth_tensor(batch, self.ids)
        # Uncut ids of int64 are the batch's own tensor: some checks find it by identity.
        return (ids[:, :-1] if self.cut else ids).long().contiguous()

    def y(self, batch: Batch) -> Tensor:
        if self.targets is not None:
            return nth_tensor(batch, self.targets).long()
        return nth_tensor(batch, self.ids)[:, 1:].long().contiguous()

    def with_x(self, batch: Batch, ids: Tensor) -> Batch:
        old = nth_tensor(batch, self.ids)
        if self.x(batch).shape != ids.shape:
            batch = _resized(batch, self.x(batch).shape, ids.shape)
        last = nth_tensor(batch, self.ids)[:, -1:]
        whole = torch.cat([ids.to(last), last], dim=1) if self.cut else ids.to(old.dtype)
        return numbered(batch, lambda number, tensor: whole if number == self.ids else tensor)

    def shortened(self, batch: Batch, t: int) -> Batch:
        rows, length = self.x(batch).shape
        return _resized(batch, (rows, length), (rows, t))


def token_view(
    model: nn.Module, call: Call, batch: Batch, ids: IdsPlace | None, layout: Layout | None
) -> TokenView | None:
    """Return the view of a batch with rows along the first axis."""
    if ids is None:
        return _labels_view(model, batch)
    y = call.targets(batch) if call.targets else None
    number = next((n for n, tensor in enumerate(tensors_of(batch)) if tensor is y), None)
    if y is not None and number is None and not ids.cut and isinstance(y, Tensor):
        x = nth_tensor(batch, ids.number)
        # Targets that are computed from the batch, such as y[:, 1:].
        return TensorView(ids.number, False, None).view(call.targets if y.shape == x.shape else None)
    is_plain = layout is None and call.description == "model(x)"
    if is_plain and is_pair_of_ids(batch) and ids == IdsPlace(0) and number == 1:
        return PAIRS
    x = nth_tensor(batch, ids.number)[:, : -1 if ids.cut else None]
    fitting = number is not None and isinstance(y, Tensor) and are_ids(y) and y.shape == x.shape
    return TensorView(ids.number, ids.cut, number if fitting else None).view()


def _labels_view(model: nn.Module, batch: Batch) -> TokenView | None:
    """Return the view of an encoder-decoder of transformers, which makes the decoder's ids from the labels."""
    if not makes_decoder_ids(model, batch):
        return None
    shifted: Callable[..., Tensor] = model.prepare_decoder_input_ids_from_labels  # type: ignore[assignment]

    def x(batch: Batch) -> Tensor:
        ids: Tensor = batch.get(DECODER_IDS)
        return shifted(labels=batch["labels"]) if ids is None else ids

    def with_x(batch: Batch, ids: Tensor) -> Batch:
        changed = _resized(batch, x(batch).shape, ids.shape)
        return {**changed, DECODER_IDS: ids}

    return TokenView(x, lambda batch: batch["labels"], with_x, logits_in)


def _resized(batch: Batch, old: tuple[int, ...], new: tuple[int, ...]) -> Batch:
    """Return the batch with `new` rows and positions [B, T] instead of `old`; missing ones repeat those there are.

    Tensors whose first axis has B items are rows; their second axis, and those of square masks, are positions if they
    have T items, or T + 1.
    """
    (rows, length), (new_rows, new_length) = old, new

    def fit(tensor: Tensor) -> Tensor:
        if tensor.dim() and tensor.shape[0] == rows:
            tensor = tensor[torch.arange(new_rows, device=tensor.device) % rows]
            positions = {1}
        else:
            positions = set()
        if tensor.dim() >= 2 and tensor.shape[-1] == tensor.shape[-2]:
            positions |= {tensor.dim() - 2, tensor.dim() - 1}
        for axis in positions:
            if axis < tensor.dim() and 0 <= (extra := tensor.shape[axis] - length) <= 1:
                kept = torch.arange(new_length + extra, device=tensor.device) % (length + extra)
                tensor = tensor.index_select(axis, kept)
        return tensor.contiguous()

    return mapped(batch, fit)

"""Does padding leave the results of real tokens alone? Cost: two or three forward passes.

Where the script's tokenizer names the padding, its embedding is changed. Where a batch holds a mask, the tokens under
it are exchanged. Where the model accepts `attention_mask`, padding is added under it. For a source that is padded
without a mask, more padding is added.
"""

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tui_lab.core.doctor.checks.model.seen_padding import SeenPadding, seen_padding
from tui_lab.core.doctor.findings import Finding, Kind, NotApplicable
from tui_lab.core.doctor.measures.dependence import other_tokens
from tui_lab.core.doctor.measures.differences import Precision, relative_difference
from tui_lab.core.doctor.measures.inputs import inputs_of, sources
from tui_lab.core.doctor.measures.no_dropout import without_dropout
from tui_lab.core.doctor.program.batch import with_tensor
from tui_lab.core.doctor.program.nested import tensors_of
from tui_lab.core.doctor.program.target import Target
from tui_lab.core.doctor.program.tokens import logits_in

N_ADDED = 3


def check(target: Target) -> Iterator[Finding]:
    with target.evaluating(), torch.no_grad(), without_dropout(), Precision() as precision:
        seen = seen_padding(target)
        if seen is not None and seen.relative > precision.allowed:
            yield _not_hidden(seen)
            return
        effect = _effect(target)
        if effect is not None and effect.relative > precision.allowed:
            yield _attended(effect)


@dataclass(frozen=True)
class _Effect:
    """How much padding changes the outputs of real tokens, relative to their range, and how that was measured."""

    relative: float
    measured: str
    kind: Kind = "finding"


def _effect(target: Target) -> _Effect | None:
    """Return the effect of padding; None if the outputs have no numbers. Raises NotApplicable if there is none."""
    masked = _mask_in(target)
    if masked is not None:
        return _exchanged(target, *masked)
    model = _with_attention_mask(target.model)
    if model is not None and target.tokens is not None:
        return _added(target, model)
    source = _padded_source(target)
    if source is None:
        raise NotApplicable("the batch holds no padding mask, and the model accepts no attention_mask")
    return _longer(target, source)


def _floats(output: Any) -> Tensor | None:
    """Return the logits of an output, or its first float tensor."""
    try:
        return logits_in(output).float()
    except (AttributeError, KeyError, TypeError, IndexError):
        return next((tensor.float() for tensor in tensors_of(output) if tensor.is_floating_point()), None)


def _mask_in(target: Target) -> tuple[Tensor, Tensor] | None:
    """Return ids [B, S] of the batch and where they are padding, bool [B, S], if the batch holds a mask of them."""
    tensors = [tensor for tensor in tensors_of(inputs_of(target.probe.batch)) if tensor.dim() == 2]
    all_ids = [tensor for tensor in tensors if not tensor.is_floating_point() and tensor.dtype != torch.bool]
    for mask in tensors:
        if not bool(((mask == 0) | (mask == 1)).all()) or len(torch.unique(mask)) < 2:
            continue
        for ids in all_ids:
            if ids is mask or ids.shape != mask.shape or len(torch.unique(ids)) < 3:
                continue
            for padding in (mask == 0, mask == 1):
                if len(torch.unique(ids[padding])) == 1 and len(torch.unique(ids[~padding])) > 1:
                    return ids, padding
    return None


def _exchanged(target: Target, ids: Tensor, padding: Tensor) -> _Effect | None:
    batch = target.probe.batch
    other = torch.where(padding, other_tokens(ids, ~padding), ids)
    before, after = (_floats(target.output(one)) for one in (batch, with_tensor(batch, ids, other)))
    if before is None or after is None:
        return None
    counted = ~padding.to(before.device) if before.dim() == 3 and before.shape[:2] == padding.shape else None
    return _Effect(relative_difference(after, before, counted), "other tokens under the padding mask")


def _with_attention_mask(model: nn.Module) -> nn.Module | None:
    """Return the model if it can be called as those of transformers: with input_ids and attention_mask alone."""
    parameters = inspect.signature(model.forward).parameters
    config = getattr(model, "config", None)
    if not {"input_ids", "attention_mask"} <= set(parameters) or getattr(config, "is_encoder_decoder", False):
        return None
    return model


def _added(target: Target, model: nn.Module) -> _Effect:
    """Add padding under the mask: before the tokens of a causal model, whose positions are continued, or after them."""
    x = target.probe.x
    try:
        causal = _is_causal(model, x)
    except Exception as error:
        raise NotApplicable(f"the model cannot be called with input_ids alone: {error}") from None
    n = max(1, min(x.shape[1] - N_ADDED, x.shape[1] // 2))
    ids = x[:, :n]
    padding = ids[:, :1].expand(-1, min(N_ADDED, x.shape[1] - n))
    k = padding.shape[1]
    if k == 0:
        raise NotApplicable("rows are too short to add padding")
    padded = torch.cat([padding, ids] if causal else [ids, padding], dim=1)
    mask = torch.ones_like(padded)
    mask[:, slice(0, k) if causal else slice(n, None)] = 0
    places = _continued_places(model, mask) if causal else {}
    alone, together = _both(model, ids, padded, mask, places)
    if alone is None or together is None or alone.dim() != 3 or together.shape[1] != padded.shape[1]:
        raise NotApplicable("the model returns no logits for each position")
    unpadded = together[:, k:] if causal else together[:, :n]
    side = "before" if causal else "after"
    return _Effect(relative_difference(unpadded, alone), f"{k} masked tokens {side} a row")


def _continued_places(model: nn.Module, mask: Tensor) -> dict[str, Tensor]:
    """Return positions [B, T] that count the unmasked tokens alone; empty if the model takes no positions.

    Only padding before a row needs them. Models whose first position is not 0 compute their own otherwise: RoBERTa's
    is the padding id plus one.
    """
    if "position_ids" not in inspect.signature(model.forward).parameters:
        return {}
    return {"position_ids": (mask.cumsum(dim=1) - 1).clamp(min=0)}


def _both(
    model: nn.Module, ids: Tensor, padded: Tensor, mask: Tensor, places: dict[str, Tensor]
) -> tuple[Tensor | None, Tensor | None]:
    """Return the outputs of the ids alone, and with padding under the mask, each at the same positions."""
    places_alone = {name: place[:, -ids.shape[1] :] for name, place in places.items()}
    try:
        alone = _floats(model(input_ids=ids, attention_mask=torch.ones_like(ids), **places_alone))
        return alone, _floats(model(input_ids=padded, attention_mask=mask, **places))
    except Exception as error:
        raise NotApplicable(f"attention_mask is not a mask [B, T] of the tokens: {error}") from None


def _is_causal(model: nn.Module, x: Tensor) -> bool:
    other = x.clone()
    other[:, -1] = torch.where(x[:, -1] == x[:, 0], x[:, x.shape[1] // 2], x[:, 0])
    before, after = (_floats(model(input_ids=ids)) for ids in (x, other))
    return before is None or after is None or torch.allclose(before[:, 0], after[:, 0], rtol=1e-4, atol=1e-5)


def _padded_source(target: Target) -> Tensor | None:
    """Return ids [B, S] other than the decoder's whose rows end with different numbers of one token."""
    for ids in sources(target):
        if ids.dim() != 2 or ids.shape[1] < 3 or bool((ids < 0).any()):
            continue
        last = ids[:, -1].mode().values
        n_last = (ids != last).flip(1).float().argmax(dim=1)
        if bool((n_last > 1).any()) and len(torch.unique(n_last)) > 1:
            return ids
    return None


def _longer(target: Target, source: Tensor) -> _Effect:
    """Add padding to a source. The effect is only a hint: small programs leave padding unmasked on purpose."""
    batch = target.probe.batch
    more = torch.cat([source, source[:, -1].mode().values.expand(len(source), 2)], dim=1)
    before = _floats(target.output(batch))
    try:
        after = _floats(target.output(with_tensor(batch, source, more)))
    except Exception:
        raise NotApplicable("the model accepts rows of one length only") from None
    if before is None or after is None or before.shape != after.shape or before.dim() < 2:
        raise NotApplicable("the outputs have no place that can be compared")
    return _Effect(relative_difference(after, before), "two more padding tokens after each row", "hint")


def _not_hidden(seen: SeenPadding) -> Finding:
    return Finding(
        code="padding_attended",
        title=f"The model attends to the padding at the {seen.side} of rows: its attention_mask does not hide it.",
        evidence=f"with another embedding of the id {seen.token}, which the script's tokenizer has for padding alone, "
        f"the outputs of real tokens change by {seen.relative:.2g} of their range",
        why="Each token reads the padding as if it were text, so the results of a row depend on how much of it "
        "there is.",
        fix="Give the model the tokenizer's attention_mask, which is 0 at the padding.",
    )


def _attended(effect: _Effect) -> Finding:
    return Finding(
        code="padding_attended",
        title="Padding is attended to: it changes the results of real tokens.",
        evidence=f"{effect.measured}: the outputs of real tokens change by {effect.relative:.2g} of their range",
        why="Results depend on how long the other rows of a batch are, and generation has no padding at all.",
        fix="Give every attention the padding mask in the form that it expects: True for keys to hide in "
        "key_padding_mask, True for keys to see in scaled_dot_product_attention; and mask keys, not queries.",
        kind=effect.kind,
    )

"""Findings of rows of a batch that influence each other, by their cause."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from tui_lab.core.doctor.checks.model.batch_mixing import batch_mixing, rows_mixed
from tui_lab.core.doctor.checks.model.measured_mode import MeasuredMode
from tui_lab.core.doctor.checks.model.norm_axis import norm_axis
from tui_lab.core.doctor.findings import Finding
from tui_lab.core.doctor.loop.lines import class_line
from tui_lab.core.doctor.measures.dependence import TOLERANCE, counted_predictions, other_tokens
from tui_lab.core.doctor.program.target import Target


def mixed_rows_finding(measured: MeasuredMode) -> Finding:
    """Return the finding of rows that influence each other in this mode, with its cause where one is known."""
    recurrent = _rows_as_time(measured.target)
    if recurrent is None and _takes_positions_first(measured.target):
        return _positions_first()
    record = measured.record()
    mixes = sorted((mix for mix in record.mixes if mix.over_rows), key=lambda mix: mix.kind == "reduction")
    result = measured.result
    assert result.others is not None
    evidence = (
        "a token of one row changes the logits of other rows, by up to "
        f"{float(result.others.max()) / result.largest:.0%} of its largest effect in its own row"
    )
    if recurrent is not None:
        return batch_mixing(*_takes_time_first(recurrent, evidence), class_line(measured.target.model, recurrent))
    if mixes and mixes[0].kind == "norm":
        return norm_axis(mixes[0], evidence, measured)
    return rows_mixed(mixes[0] if mixes else None, evidence, suffix=measured.suffix)


def _rows_as_time(target: Target) -> str | None:
    """Return the name of a recurrent layer that gets [B, T, C] but expects [T, B, C], or None."""
    rows, length = target.probe.x.shape
    if rows == length:
        return None
    names: list[str] = []

    def hook(name: str) -> Callable[[nn.Module, Any], None]:
        def look(module: nn.Module, args: Any) -> None:
            if args and isinstance(args[0], Tensor) and args[0].dim() == 3 and args[0].shape[:2] == (rows, length):
                names.append(name)

        return look

    handles = [
        module.register_forward_pre_hook(hook(name))
        for name, module in target.model.named_modules()
        if isinstance(module, nn.RNNBase) and not module.batch_first
    ]
    try:
        with target.evaluating(), torch.no_grad():
            target.output(target.probe.batch)
    finally:
        for handle in handles:
            handle.remove()
    return names[0] if names else None


def _takes_time_first(name: str, evidence: str) -> tuple[str, str, str]:
    """Return the title, evidence and fix of a recurrent layer that takes rows for positions."""
    return (
        "A recurrent layer runs over the rows of the batch, not over the positions: batch_first=True is missing.",
        f"{name or 'the model'} has batch_first=False, so it expects [T, B, C], and gets [B, T, C]; {evidence}",
        f"Create {name or 'it'} with batch_first=True, or give it [T, B, C].",
    )


def _takes_positions_first(target: Target) -> bool:
    """Return whether rows are independent once the ids are given as [T, B]."""
    x = target.probe.x
    if x.shape[0] == x.shape[1]:
        return False
    other = other_tokens(x, counted_predictions(target))
    other[0] = x[0]
    try:
        with target.evaluating(), torch.no_grad():
            before, after = (target.logits(ids.t().contiguous()) for ids in (x, other))
    except Exception:  # The model accepts no such shape.
        return False
    if before.dim() != 3 or before.shape[:2] != x.t().shape:
        return False
    changed = (before - after).abs().amax(dim=(0, 2))
    return float(changed[0]) <= TOLERANCE * float(changed.max())


def _positions_first() -> Finding:
    return batch_mixing(
        "The model takes [T, B], positions first, and gets rows first.",
        "with transposed ids, no row depends on another one; as given, each does",
        "Give it x.t(), or create its layers with batch_first=True.",
    )

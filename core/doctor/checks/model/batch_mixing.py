"""The findings of examples or rows of a batch that influence each other."""

from tui_lab.core.doctor.findings import Finding, Kind
from tui_lab.core.doctor.measures.attention_record import Mix


def rows_mixed(mix: Mix | None, evidence: str, *, suffix: str = "", kind: Kind = "finding") -> Finding:
    """Return the finding. mix: the operation that combines rows; suffix: in which mode only."""
    if mix is None:
        return batch_mixing(f"The rows of a batch influence each other{suffix}.", evidence, _FIX, kind=kind)
    where = mix.module or "the model"
    if mix.kind in ("reduction", "norm"):
        what = mix.operation.split(" ")[0] if mix.kind == "reduction" else "norm"
        title = f"A {what} over the batch lets rows influence each other{suffix}."
        return batch_mixing(title, f"{mix.operation} in {where}; {evidence}", _FIX, mix.location, kind)
    if mix.operation.startswith("Multi"):
        title = "Attention runs over the rows of the batch, not over the positions."
        fix = "Create nn.MultiheadAttention, or the encoder layer, with batch_first=True, or give it [T, B, C]."
        return batch_mixing(title, f"{where} gets [B, T, C] but expects [T, B, C]; {evidence}", fix, mix.location, kind)
    return batch_mixing(
        "A reshape mixes rows of the batch with positions.",
        f"vectors in {where} are not in the order of rows and positions; {evidence}",
        "Exchange axes with transpose or permute; view and reshape only regroup elements.",
        mix.location,
        kind,
    )


_FIX = "Look for a view or a mean over the batch dimension, and for batch norm; normalize over features instead."


def batch_mixing(title: str, evidence: str, fix: str, location: str = "", kind: Kind = "finding") -> Finding:
    """Return a finding with the code "batch_mixing"."""
    return Finding(
        code="batch_mixing",
        title=title,
        evidence=evidence,
        why="Results depend on which rows share a batch; validation and generation use different batches than training "
        "does.",
        fix=fix,
        location=location,
        kind=kind,
    )

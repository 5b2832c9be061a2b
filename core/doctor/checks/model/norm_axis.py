"""The finding of a norm that runs over positions or rows."""

from tui_lab.core.doctor.checks.model.measured_mode import MeasuredMode
from tui_lab.core.doctor.findings import Finding
from tui_lab.core.doctor.measures.attention_record import Mix


def norm_axis(mix: Mix, evidence: str, measured: MeasuredMode) -> Finding:
    """Return the finding. mix: the norm; evidence: what was measured of its effect."""
    over = "rows of the batch" if mix.over_rows else "positions"
    return Finding(
        code="norm_axis",
        title=f"A norm runs over the {over}, not only over the features{measured.suffix}.",
        evidence=f"{mix.operation} in {mix.module or 'the model'}; {evidence}",
        why="Each position learns about "
        + (
            "the other rows of its batch, which differ in validation and generation."
            if mix.over_rows
            else "later ones."
        ),
        fix="Normalize each position by itself: nn.LayerNorm(d_model) over the last axis.",
        location=mix.location,
        drawing=measured.result.drawing(),
        explains=("causal_leak", "batch_mixing", "no_positions"),
    )

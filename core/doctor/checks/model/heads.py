"""The finding of heads that are split or merged by a reshape without a transpose."""

from tui_lab.core.doctor.findings import Finding
from tui_lab.core.doctor.measures.attention_record import Mix


def heads_mixed(mix: Mix, evidence: str, *, suffix: str = "", drawing: tuple[str, ...] = ()) -> Finding:
    """Return the finding. evidence: what was measured of the effect; suffix: in which mode only."""
    merged = mix.kind == "heads_merged"
    what = "hold parts of several positions" if merged else "are not in the order of the positions"
    return Finding(
        code="heads_mixed",
        title=f"The heads are {'merged' if merged else 'split'} by a reshape without a transpose, which mixes "
        f"positions{suffix}.",
        evidence=f"vectors of {mix.module or 'the model'} {what}" + (f"; {evidence}" if evidence else ""),
        why="Each position gets parts of other positions, later ones among them, so the model cannot attend to what it "
        "selects.",
        fix="Move the head axis back first: x.transpose(1, 2).reshape(B, T, C)."
        if merged
        else "Split the features, then move the head axis: x.view(B, T, H, C // H).transpose(1, 2).",
        location=mix.location,
        drawing=drawing,
        explains=("causal_leak", "no_context", "batch_mixing"),
    )

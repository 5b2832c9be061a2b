"""Names and numbers of what is measured inside a model, for the command and the app."""

import math
from collections.abc import Sequence

MEASUREMENTS = {"grad_norm": "gradient norm", "update_ratio": "update / weight", "dead_units": "dead units"}
"""What is measured of each layer while a run trains."""


def layer_title(name: str) -> str:
    """Return how a layer is called: "layer 3" for our "layers.3", the name in the model for others."""
    return f"layer {name.removeprefix('layers.')}" if name.startswith("layers.") else name


def layer_titles(names: Sequence[str]) -> list[str]:
    return [layer_title(name) for name in names]


def part_titles(n_heads: int) -> list[str]:
    """Return the names of the parts of a layer that an ablation takes out, in their order."""
    return [*(f"head {head}" for head in range(n_heads)), "attention", "feed-forward"]


def number_in_five(value: float) -> str:
    """Return a number in at most five characters: 0.123, 12.3, 1e+05."""
    if math.isnan(value):
        return "–"
    for digits in (3, 2, 1):
        text = f"{value:.{digits}g}"
        if len(text) <= 5:
            return text
    return text


def change_text(change: float) -> str:
    """Return a signed number in at most six characters."""
    if math.isnan(change):
        return "–"
    size = abs(change)
    return f"{change:+.3f}" if size < 9.9995 else f"{change:+.2f}" if size < 99.995 else f"{change:+.0f}"

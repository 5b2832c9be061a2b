"""Names and numbers of what is measured inside a model, for the command and the app."""

import math
from collections.abc import Sequence

MEASUREMENTS = {"grad_norm": "gradient norm", "update_ratio": "update / weight", "dead_units": "dead units"}
"""What is measured of each layer while a run trains."""


def layer_titles(names: Sequence[str]) -> list[str]:
    """Return how layers are called: "layer 3" for "layers.3" and "transformer.h.3".

    Names without a number stay as they are, and so do all names where the numbers belong to several lists.
    """
    parts = [name.rpartition(".") for name in names]
    lists = {of_list for of_list, _, number in parts if number.isdecimal()}
    if len(lists) != 1:
        return list(names)
    return [
        f"layer {number}" if number.isdecimal() else name for name, (_, _, number) in zip(names, parts, strict=True)
    ]


def own_layer_name(names: Sequence[str]) -> str:
    """Return which layer of the model "layer 0" is, for a model whose layers are not in "layers"; otherwise nothing."""
    for name, title in zip(names, layer_titles(names), strict=True):
        if title != name and not name.startswith("layers."):
            return f"{title} is {name}"
    return ""


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

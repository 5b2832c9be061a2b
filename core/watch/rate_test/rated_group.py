"""The parameter groups that a rising learning rate is for, as data and as text. Does not import torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

MOST_NAMED = 3
"""Groups whose ratio a line of text gives; a script with a rate for each layer has dozens."""


@dataclass(frozen=True)
class RatedGroup:
    """A parameter group of a script's optimizer.

    optimizer: its number among those of the script, from 1. kind: its class. group: its number in the optimizer, from
    1. name: that the script gave it, or "". parameters: how many numbers it holds. ratio: of its rate to that of the
    first group of the first optimizer, which is the rate of the test.
    """

    optimizer: int
    kind: str
    group: int
    name: str
    parameters: int
    ratio: float


def groups_line(groups: Sequence[RatedGroup]) -> str:
    """Return which group a rate is for, and what the others get; "" where all have the same rate."""
    others = [group for group in groups if abs(group.ratio - 1) > 1e-6]
    if not others:
        return ""
    names = _names(groups)
    ratios = [f"{names[group]} × {group.ratio:.2g}" for group in others[:MOST_NAMED]]
    more = f" and {len(others) - MOST_NAMED} more" if len(others) > MOST_NAMED else ""
    first = names[groups[0]]
    first = f"parameter {first}" if first.startswith("group") else first
    return f"the rate of {first}; others keep their ratio: {', '.join(ratios)}{more}"


def _names(groups: Sequence[RatedGroup]) -> dict[RatedGroup, str]:
    """Return what tells each group from the others."""
    by_optimizer = [list(each) for _, each in groupby(groups, lambda group: group.optimizer)]
    names = {}
    for own in by_optimizer:
        for group in own:
            parts = [f"optimizer {group.optimizer} ({group.kind})"] if len(by_optimizer) > 1 else []
            parts += [f"group {group.name or group.group}"] if len(own) > 1 else []
            names[group] = " ".join(parts)
    return names

"""How much of a step's memory does not depend on the rows of its batch, at each of its moments."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from tui_lab.core.watch.memory.step_memory import Moment

RATIOS = tuple(2**i for i in range(21))
"""Times the rows for which the largest moment is kept."""


class Change(NamedTuple):
    """Memory that is allocated, or freed if bytes is negative. when: nanoseconds since 1970."""

    when: int
    address: int
    bytes: int


class Mark(NamedTuple):
    """addresses: of what does not depend on the rows at this time: gradients, copies of weights."""

    when: int
    addresses: frozenset[int]


@dataclass
class Marks:
    """What is known of a step besides its allocations. first: bytes by address of what is fixed when it begins.

    updates: from when to when an optimizer has stepped; what it allocates is fixed.
    """

    first: Mapping[int, int] = field(default_factory=dict)
    marks: list[Mark] = field(default_factory=list)
    updates: list[tuple[int, int]] = field(default_factory=list)


def largest_moments(held: int, changes: Sequence[Change], marks: Marks) -> tuple[Moment, ...]:
    """Return the moments that need most, each with some multiple of the rows. held: bytes when the step begins."""
    ordered = sorted(changes, key=lambda each: each.when)
    fixed_ones = _fixed(ordered, marks)
    total = held
    fixed = sum(marks.first.values())
    live = dict(marks.first)
    moments = {Moment(total, fixed)}
    for i, change in enumerate(ordered):
        total += change.bytes
        if change.bytes < 0:
            fixed -= live.pop(change.address, 0)
        elif i in fixed_ones:
            fixed += change.bytes
            live[change.address] = change.bytes
        moments.add(Moment(total, fixed))
    largest = {max(moments, key=lambda each: (each.at_times(ratio), each.total)) for ratio in RATIOS}
    return tuple(sorted(largest, key=lambda each: each.total, reverse=True))


def _fixed(changes: Sequence[Change], marks: Marks) -> set[int]:
    """Return which of the changes allocate what does not depend on the rows."""
    updates = sorted(marks.updates, reverse=True)
    waiting = sorted(marks.marks, key=lambda each: each.when, reverse=True)
    latest: dict[int, int] = {}
    fixed: set[int] = set()
    for i, change in enumerate(changes):
        while waiting and waiting[-1].when <= change.when:
            fixed |= {latest[address] for address in waiting.pop().addresses & latest.keys()}
        while updates and updates[-1][1] <= change.when:
            updates.pop()
        if change.bytes < 0:
            latest.pop(change.address, None)
            continue
        latest[change.address] = i
        if updates and updates[-1][0] <= change.when:
            fixed.add(i)
    for mark in waiting:
        fixed |= {latest[address] for address in mark.addresses & latest.keys()}
    return fixed

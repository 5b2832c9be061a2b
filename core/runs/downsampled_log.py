"""The record of a run in bounded size: what a drawing of it needs, so that a million updates open at once.

What happens once is kept whole. Of updates, of those that measured more, and of evaluations, a group of neighbours
keeps its lowest and its highest loss: no peak is lost to a drawing with fewer columns than groups.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tui_lab.core import events as ev
from tui_lab.util import files
from tui_lab.util.strict_json import sealed, unsealed

LIMIT = 4096
"""Groups of neighbours of each kind, at most: more than a terminal has columns."""
LARGEST_FILE = 2**26
"""Bytes; four times what the groups can come to."""
Numbered = tuple[int, ev.Event]
"""An event with its place in the record."""


@dataclass
class Thinned:
    """Events of one kind, in order; past four times `limit`, half of them go."""

    value: Callable[[Any], float]
    limit: int = LIMIT
    items: list[Numbered] = field(default_factory=list)

    def add(self, item: Numbered) -> None:
        self.items.append(item)
        if len(self.items) > 4 * self.limit:
            self.items = self._thinned()

    def _thinned(self) -> list[Numbered]:
        kept: list[Numbered] = []
        size = len(self.items) / self.limit
        for i in range(self.limit):
            group = self.items[round(i * size) : round((i + 1) * size)]
            ends = (min(group, key=self._of), max(group, key=self._of))
            kept += sorted(set(ends), key=lambda item: item[0])
        return kept if kept[-1] == self.items[-1] else [*kept, self.items[-1]]

    def _of(self, item: Numbered) -> float:
        return self.value(item[1])


class Digest:
    """Told every event by `add`; `events()` gives those that were kept, `seconds` what all updates took."""

    def __init__(self, limit: int = LIMIT) -> None:
        self.seconds = 0.0
        self.count = 0
        self._once: list[Numbered] = []
        self._updates = Thinned(lambda event: float(event.loss), limit)
        self._measured = Thinned(lambda event: float(event.loss), limit)
        self._evaluated = Thinned(lambda event: float(event.val_loss), limit)

    def add(self, event: ev.Event) -> None:
        item, self.count = (self.count, event), self.count + 1
        match event:
            case ev.StepDone():
                self.seconds += event.seconds
                (self._updates if event.update_ratio is None else self._measured).add(item)
            case ev.Evaluated():
                self._evaluated.add(item)
            case _:
                self._once.append(item)

    def events(self) -> list[ev.Event]:
        """In the order in which they happened."""
        parts = (self._once, self._updates.items, self._measured.items, self._evaluated.items)
        return [event for _, event in sorted((item for part in parts for item in part), key=lambda item: item[0])]

    def before(self, step: int, seconds: float) -> "Digest":
        """What was known before update `step` was done, when all updates had taken `seconds`."""
        kept = of(event for event in self.events() if event.step < step)
        kept.seconds = seconds
        return kept

    def write(self, path: Path, offset: int) -> None:
        """offset: the bytes of the record that are told by this. Raises OSError."""
        head = {"offset": offset, "seconds": self.seconds, "events": [event.to_json() for event in self.events()]}
        files.write_text(path, sealed(head))


def of(events: Iterable[ev.Event]) -> Digest:
    digest = Digest()
    for event in events:
        digest.add(event)
    return digest


def read(path: Path) -> tuple[Digest, int]:
    """A digest and its offset; an empty one where there is none, or none as it was written."""
    try:
        head, whole = unsealed(files.read_text(path, LARGEST_FILE))
        if not whole:
            return Digest(), 0
        digest = of(ev.from_json(record) for record in head["events"])
        digest.seconds = float(head["seconds"])
        return digest, int(head["offset"])
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return Digest(), 0

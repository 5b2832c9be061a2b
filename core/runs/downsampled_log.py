"""A downsampled event log: bounded in size, so that a run of a million steps opens at once.

Events that happen once are all kept. Of steps, of steps that measured more, of those that measured each layer, of
evaluations and of logged values, each group of neighbors keeps its lowest and its highest loss or value, so that a plot
with fewer columns than groups shows every peak. Of logged texts, the newest are kept.
"""

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tui_lab.core import events as ev
from tui_lab.util import files
from tui_lab.util.lazy_adapter import LazyAdapter
from tui_lab.util.strict_json import sealed, unsealed_text
from tui_lab.util.thinning import extremes

LIMIT = 1024
"""Groups of neighbors of each kind, at most: more than a terminal has columns."""
LIMIT_BY_LAYER = 256
"""Of steps that measured each layer, which take more room. Their losses are extremes as well."""
MOST_CHARACTERS = 2**22
"""Of logged texts; beyond them, the older half is dropped."""
LARGEST_FILE = 2**26
"""Bytes; about four times what the groups and the texts can need."""
Numbered = tuple[int, ev.Event]
"""An event and its number in the log."""


@dataclass
class Thinned:
    """Events of one kind, in order. Past four times `limit`, half of them are dropped."""

    value: Callable[[Any], float]
    limit: int = LIMIT
    items: list[Numbered] = field(default_factory=list)

    def add(self, item: Numbered) -> None:
        self.items.append(item)
        if len(self.items) > 4 * self.limit:
            self.items = extremes(self.items, self.limit, value=lambda numbered: self.value(numbered[1]))


class DownsampledLog:
    """Takes every event by `add`. `events()` are those kept, `seconds` is the time of all steps."""

    def __init__(self, limit: int = LIMIT) -> None:
        self.seconds = 0.0
        self.count = 0
        self._once: list[Numbered] = []
        self._steps = Thinned(lambda event: float(event.loss), limit)
        self._measured = Thinned(lambda event: float(event.loss), limit)
        self._by_layer = Thinned(lambda event: float(event.loss), min(limit, LIMIT_BY_LAYER))
        self._evaluated = Thinned(lambda event: float(event.val_loss), limit)
        self._logged = Thinned(lambda event: next(iter(event.values.values()), 0.0), limit)
        self._n_characters = 0

    def add(self, event: ev.Event) -> None:
        item = (self.count, event)
        self.count += 1
        match event:
            case ev.StepDone():
                self.seconds += event.seconds
                self._group_of(event).add(item)
            case ev.Evaluated():
                self._evaluated.add(item)
            case ev.Logged():
                self._logged.add(item)
                self._n_characters += _characters(event)
                if self._n_characters > MOST_CHARACTERS:
                    self._drop_old_texts()
            case _:
                self._once.append(item)

    def _group_of(self, event: ev.StepDone) -> Thinned:
        if event.by_layer is not None:
            return self._by_layer
        return self._steps if event.update_ratio is None else self._measured

    def _drop_old_texts(self) -> None:
        """Keep the newest texts of at most half of MOST_CHARACTERS, and every value."""
        newest_first: list[Numbered] = []
        n_characters = 0
        for number, event in reversed(self._logged.items):
            assert isinstance(event, ev.Logged)
            is_kept = not newest_first or n_characters + _characters(event) <= MOST_CHARACTERS // 2
            logged = event if is_kept else replace(event, texts={})
            n_characters += _characters(logged)
            if logged.values or logged.texts:
                newest_first.append((number, logged))
        self._logged.items = newest_first[::-1]
        self._n_characters = n_characters

    def events(self) -> list[ev.Event]:
        """Return the kept events, in the order in which they happened."""
        groups = (self._steps, self._measured, self._by_layer, self._evaluated, self._logged)
        parts = (self._once, *(group.items for group in groups))
        return [event for _, event in sorted((item for part in parts for item in part), key=lambda item: item[0])]

    def before(self, step: int, seconds: float) -> "DownsampledLog":
        """Return the log as it was before step `step` was done. seconds: the time of all steps until then."""
        earlier = downsample(event for event in self.events() if event.step < step)
        earlier.seconds = seconds
        return earlier

    def write(self, path: Path, offset: int) -> None:
        """Write digest.json. offset: the bytes of events.jsonl that this log covers. Raises OSError."""
        content = {"offset": offset, "seconds": self.seconds, "events": [event.to_json() for event in self.events()]}
        files.write_text(path, sealed(content))


def _characters(event: ev.Logged) -> int:
    return sum(map(len, event.texts.values()))


@dataclass
class _File:
    """The content of digest.json, without its checksum."""

    offset: int
    seconds: float
    events: list[ev.AnyEvent]


_FILE: LazyAdapter[_File] = LazyAdapter(_File)
_CHANGED = '{"event": "changed"'
"""Where a Changed event begins in digest.json. Within a text, the quotation marks would be escaped."""


def downsample(events: Iterable[ev.Event]) -> DownsampledLog:
    """Return a log of `events`."""
    log = DownsampledLog()
    for event in events:
        log.add(event)
    return log


def read_downsampled_log(path: Path) -> tuple[DownsampledLog, int]:
    """Return the log in `path` and its offset; an empty one where the file is missing or damaged."""
    try:
        body, has_checksum = unsealed_text(files.read_text(path, LARGEST_FILE))
        content = _FILE.validate_json(body)
    except (OSError, ValueError):
        return DownsampledLog(), 0
    if not has_checksum:
        return DownsampledLog(), 0
    log = downsample(content.events)
    log.seconds = content.seconds
    return log, content.offset


def read_changes(path: Path, offset: int) -> list[ev.Changed] | None:
    """Return the Changed events of the log in `path`, parsed without the others.

    None unless it covers `offset` bytes.
    """
    try:
        body, has_checksum = unsealed_text(files.read_text(path, LARGEST_FILE))
        if not has_checksum or not body.lstrip("{ ").startswith(f'"offset": {offset},'):
            return None
        events = [ev.parse_event(_json_at(body, match.start())) for match in re.finditer(_CHANGED, body)]
    except (OSError, ValueError):
        return None
    return [event for event in events if isinstance(event, ev.Changed)]


def _json_at(text: str, start: int) -> str:
    """Return the JSON value that begins at `start`."""
    _, end = json.JSONDecoder().raw_decode(text, start)
    return text[start:end]

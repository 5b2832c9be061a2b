"""Which modules hold most: a tree of modules is opened where most is, until there are enough parts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tui_lab.core.watch.memory.modules_at_work import Path, Place
from tui_lab.core.watch.memory.step_memory import KeptPart

ENOUGH_PARTS = 4
"""With so many large parts, none is opened any more: a layer's attention, feed-forward, and norms."""
MAX_PARTS = 8
SMALL = 0.02
"""Of everything: what is smaller does not count as a part."""


@dataclass
class _Part:
    """What modules and those in them hold. own: without those in them. modules: which ones they are."""

    bytes: int = 0
    own: int = 0
    modules: set[int] = field(default_factory=set)


def largest_parts(held: Sequence[tuple[Place, int]]) -> tuple[KeptPart, ...]:
    """Return the parts of what is held at each place, in bytes; the largest first, small ones together at the end."""
    lines: dict[str, int] = {}
    tree: dict[Path, _Part] = {}
    for place, size in held:
        if not place.path:
            lines[place.line] = lines.get(place.line, 0) + size
            continue
        for depth in range(1, len(place.path) + 1):
            part = tree.setdefault(place.path[:depth], _Part())
            part.bytes += size
            part.modules.add(place.modules[depth - 1])
            part.own += size if depth == len(place.path) else 0
    total = sum(size for _, size in held)
    shown = _opened(tree, SMALL * total)
    parts = [KeptPart(path[-1][0], path[-1][1], len(tree[path].modules), size) for path, size in shown.items()]
    parts += [KeptPart("", line or "?", 0, size) for line, size in lines.items()]
    parts.sort(key=lambda part: part.bytes, reverse=True)
    large = [part for part in parts[:MAX_PARTS] if part.bytes >= SMALL * total]
    rest = sum(part.bytes for part in parts) - sum(part.bytes for part in large)
    return (*large, KeptPart("", "", 0, rest)) if rest else tuple(large)


def _opened(tree: Mapping[Path, _Part], small: float) -> dict[Path, int]:
    """Return the bytes of modules that together hold all, opened from the outermost on while they are few."""
    shown: dict[Path, int] = {path: part.bytes for path, part in tree.items() if len(path) == 1}
    closed: set[Path] = set()
    while candidates := [path for path in shown if path not in closed]:
        path = max(candidates, key=lambda each: shown[each])
        closed.add(path)
        inside = {each: part.bytes for each, part in tree.items() if each[:-1] == path}
        opened = {each: size for each, size in shown.items() if each != path} | inside
        if tree[path].own:
            opened[path] = tree[path].own
        if inside and _n_large(opened, small) <= MAX_PARTS:
            shown = opened
        if _n_large(shown, small) >= ENOUGH_PARTS:
            break
    return shown


def _n_large(parts: Mapping[Path, int], small: float) -> int:
    return sum(size >= small for size in parts.values())

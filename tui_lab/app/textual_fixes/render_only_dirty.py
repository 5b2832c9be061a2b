"""Textual 8.2.8: an update renders every widget inside the rectangle around what changed, also those that are covered.

A frame of the lab changes widgets in all corners, so that rectangle is the screen: each of 45 widgets was rendered and
cut into pieces, most of which were thrown away. This compositor renders a widget only if one of its cells has changed
and no widget above covers it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast

from textual._compositor import ChopsUpdate, Compositor
from textual.geometry import Region
from textual.screen import ScreenResultType
from textual.strip import Strip

from tui_lab.app.textual_fixes.screen_mixin import ScreenMixin


class DirtyCompositor(Compositor):
    """Each line of the screen is cut at the edges of all widgets; a piece is known by the column where it begins."""

    def render_partial_update(self) -> ChopsUpdate | None:
        regions = set(self._dirty_regions)
        self._dirty_regions.clear()
        if not regions:
            return None
        spans = list(self._regions_to_spans(regions))
        missing: list[set[int]] = [set() for _ in self.cuts]
        for y, start, end in spans:
            if 0 <= y < len(missing):
                cuts = self.cuts[y]
                missing[y].update(a for a, b in zip(cuts, cuts[1:], strict=False) if a < end and b > start)
        return ChopsUpdate(self._render_pieces(missing), spans, [cuts[1:] for cuts in self.cuts])

    def _render_chops(self, crop: Region, is_rendered_line: Callable[[int], bool]) -> Sequence[Mapping[int, Strip]]:
        rendered = {y for y in crop.line_range if is_rendered_line(y)}
        return self._render_pieces([set(cuts[:-1]) if y in rendered else set() for y, cuts in enumerate(self.cuts)])

    def _render_pieces(self, missing: Sequence[set[int]]) -> Sequence[Mapping[int, Strip]]:
        """Return each line's pieces by their columns; those that are not in `missing` are None.

        missing: by line, the columns of the pieces to render; empty afterwards.
        """
        pieces: list[dict[int, Strip | None]] = [dict.fromkeys(cuts[:-1]) for cuts in self.cuts]
        for widget, (region, clip) in self.visible_widgets.items():  # From front to back.
            visible = region.intersection(clip)
            first, last = visible.column_span
            lines = [y for y in visible.line_range if _any_between(missing[y], first, last)]
            if not lines:
                continue
            top = lines[0]
            crop = Region(visible.x - region.x, top - region.y, visible.width, lines[-1] + 1 - top)
            strips = widget.render_lines(crop)
            for y in lines:
                cuts = [cut for cut in self.cuts[y] if first <= cut <= last]
                # A strip that is too short has fewer pieces; the widget below fills the rest.
                divided = strips[y - top].divide([cut - visible.x for cut in cuts[1:]])
                for column, piece in zip(cuts, divided, strict=False):
                    if column in missing[y]:
                        pieces[y][column] = piece
                        missing[y].remove(column)
        return cast(Sequence[Mapping[int, Strip]], pieces)  # As Textual declares it.


def _any_between(columns: Iterable[int], first: int, last: int) -> bool:
    return any(first <= column < last for column in columns)


class RenderOnlyDirty(ScreenMixin[ScreenResultType]):
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._compositor = DirtyCompositor()

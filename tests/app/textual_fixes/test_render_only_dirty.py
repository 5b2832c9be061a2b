"""Only what has changed and can be seen is rendered, and it looks as with Textual's own compositor."""

import random

import pytest
from textual._compositor import Compositor
from textual.app import App, ComposeResult
from textual.containers import Horizontal, Vertical
from textual.geometry import Region
from textual.screen import Screen
from textual.strip import Strip
from textual.widgets import Static

from tests.app.textual_fixes.plain import plain_and_fixed
from tui_lab.app.textual_fixes.base_screen import BlankScreen

SIZE = (40, 12)


class Grid(App[None]):
    """Four texts in two columns, and one on a layer above that covers their middle."""

    CSS = """
    Screen { layers: below above; }
    Static { border: solid white; height: 1fr; }
    #above { layer: above; width: 12; height: 6; offset: 10 2; }
    """

    def __init__(self, screen_type: type[Screen[None]]) -> None:
        super().__init__()
        self._screen_type = screen_type

    def get_default_screen(self) -> Screen[None]:
        return self._screen_type(id="_default")

    def compose(self) -> ComposeResult:
        with Horizontal():
            for column in "ab":
                with Vertical():
                    yield Static(column * 40, id=f"{column}1")
                    yield Static(column * 40, id=f"{column}2")
        yield Static("above", id="above")


@pytest.mark.parametrize("screen_type", plain_and_fixed(Screen, BlankScreen))
async def test_widgets_beside_a_change_are_not_rendered(
    screen_type: type[Screen[None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Grid(screen_type).run_test(size=SIZE) as pilot:
        rendered: list[str] = []
        render_lines = Static.render_lines

        def note(self: Static, crop: Region) -> list[Strip]:
            rendered.append(self.id or "")
            return render_lines(self, crop)

        monkeypatch.setattr(Static, "render_lines", note)
        compositor = pilot.app.screen._compositor
        corners = {pilot.app.query_one(f"#{id}", Static) for id in ("a1", "b2")}
        for corner in corners:
            corner._set_dirty()
        compositor._dirty_regions.clear()
        compositor.update_widgets(set(corners))
        compositor.render_partial_update()
        assert {"a1", "b2"} <= set(rendered) <= {"a1", "b2", "above"}


async def test_updates_look_as_with_the_plain_compositor() -> None:
    """Whatever changes, the pieces of an update are those of a screen that is rendered as a whole."""
    draw = random.Random(0)
    async with Grid(BlankScreen).run_test(size=SIZE) as pilot:
        screen = pilot.app.screen
        texts = list(screen.query(Static))
        for _ in range(30):
            for text in draw.sample(texts, 2):
                text.update(draw.choice("xyz") * draw.randrange(60), layout=False)
            compositor = screen._compositor
            compositor.update_widgets(set(texts))
            update = compositor.render_partial_update()
            assert update is not None
            whole = Compositor._render_chops(compositor, Region(0, 0, *SIZE), lambda y: True)
            for y, start, end in update.spans:
                pieces = {column: piece for column, piece in update.chops[y].items() if piece is not None}
                assert pieces == {column: whole[y][column] for column in pieces}
                covered = {x + i for x, piece in pieces.items() for i in range(piece.cell_length)}
                assert covered >= set(range(start, end))

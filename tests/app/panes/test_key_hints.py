"""Hints of keys: which words are keys, the user's own keys, and clicks on them."""

import pytest

from tests.app.fake import Lab, lab
from tui_lab.app.keymap import Keymap
from tui_lab.app.panes.key_hints import Hint, Key, fitting_hints, parse

HERE = {"n": "n", "N": "N", "a": "a", "left": "left", "right": "right", "comma": "comma", "x": "f6", "escape": "escape"}


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("n N example", Hint("example", (Key("n", "n"), Key("N", "N")))),
        ("a overlay a run", Hint("overlay a run", (Key("a", "a"),))),
        ("←→ read values", Hint("read values", (Key("←", "left", ""), Key("→", "right")))),
        (", step", Hint("step", (Key(",", "comma"),))),
        ("Esc cancel", Hint("cancel", (Key("Esc", "escape"),))),
        ("x axis", Hint("axis", (Key("F6", "f6"),))),
        ("z zoom", Hint("z zoom")),
        ("linear", Hint("linear")),
    ],
)
def test_words_that_are_keys_here(text: str, hint: Hint) -> None:
    assert parse(text, HERE.get) == hint


def test_hints_that_fit() -> None:
    hints = [parse(text, HERE.get) for text in ("n N example", "a apply")]
    assert fitting_hints(hints, 21).plain == "n N example · a apply"
    assert fitting_hints(hints, 20).plain == "n N example"


async def click_on(it: Lab, text: str, times: int = 1) -> None:
    lines = it.painted().splitlines()
    [(x, y)] = [(line.index(text), y) for y, line in enumerate(lines) if text in line]
    await it.pilot.click(offset=(x, y), times=times)
    await it.tell()


async def test_click_on_a_key_of_the_border_and_on_titles() -> None:
    async with lab(keymap=Keymap({"loss.smoothing": ("M",)}), size=(160, 40)) as it:
        pane = it.screen.loss_pane
        await click_on(it, "M smooth")
        assert pane.smoothing == 1
        await click_on(it, "3 Batch")
        assert it.screen.active_pane is it.screen.batch_pane and it.screen.batch_pane.has_focus_within
        await click_on(it, "3 Batch")
        assert [each for each in it.screen.panes if each.display] == [it.screen.batch_pane]
        await it.press("z")
        await click_on(it, "1 Config", times=2)
        assert [each for each in it.screen.panes if each.display] == [it.screen.config_pane]

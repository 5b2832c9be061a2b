"""The last line of the lab: the keys for every situation, in a narrow terminal too, and in fields."""

from dataclasses import replace
from typing import Any

import pytest
from textual.events import Key
from textual.widgets import Input
from textual.widgets._footer import FooterKey

from tests.app.fake import FakePlayback, Lab, lab
from tui_lab.app.actions import BY_ID, applies
from tui_lab.app.keymap import Keymap
from tui_lab.app.screens.footer_keys import Situation, items
from tui_lab.core import commands as cmd
from tui_lab.core import events as ev


def labels(now: Situation) -> list[str]:
    def command_applies(id: str) -> bool:
        return applies(BY_ID[id].needs, phase=now.phase, role=now.role)

    narrow = items(now, command_applies, Keymap(), width=30)
    assert sum(item.width for item in narrow) <= 30 and [item.label for item in narrow[-2:]] == ["Help", "Quit"]
    shown = items(now, command_applies, Keymap(), width=81)
    assert len(" ".join(f"{item.shown} {item.label}".rstrip() for item in shown)) <= 80
    return [f"{item.shown} {item.label}".rstrip() for item in shown]


@pytest.mark.parametrize(
    ("now", "first", "others"),
    [
        (Situation("loading", "training"), "Space Pause", {"w Home"}),
        (Situation("loading", "steering", will_pause=True), "Space Cancel pause", {"w Home"}),
        (Situation("loading", "replay"), "w Home", set()),
        (Situation("running", "training"), "Space Pause", {"s Step", "L lr×2", "o Overfit", "K Diagnose"}),
        (Situation("paused", "training", paused=True), "Space Resume", {"s Step"}),
        (Situation("running", "training", waits=True), "Space Pause", {"r Restart", "f Fork"}),
        (Situation("waiting", "steering"), "Space Pause", {"s Step", "5 Output"}),
        (Situation("running", "steering"), "Space Pause", {"L lr×2"}),
        (Situation("running", "watching"), "g Generate", set()),
        (Situation("running", "replay"), "Space Pause", {"<", "> Speed", "(", ") Seek", "c Resume", "f Fork"}),
        (Situation("paused", "replay", paused=True), "Space Play", {"c Resume"}),
        (Situation("paused", "replay", paused=True, waits=True), "Space Play", {"r Restart", "f Fork"}),
        (Situation("ended", "replay"), "Space Play again", {"(", ") Seek", "c Resume", "f Fork"}),
        (Situation("ended", "training"), "r Again", {"f Train on", "g Generate", "R Compare", "w Home"}),
        (Situation("ended", "steering"), "c Resume", {"r Again", "f Train on"}),
        (Situation("failed", "training"), "K Diagnose", {"r Again", "5 Events"}),
    ],
)
def test_keys_of_each_situation(now: Situation, first: str, others: set[str]) -> None:
    shown = labels(now)
    assert shown[0] == first and others <= set(shown) and shown[-2:] == ["? Help", "q Quit"]
    assert "c Resume" not in labels(replace(now, is_complete=True))


def footer(it: Lab) -> list[str]:
    return [f"{key.key_display} {key.description}" for key in it.screen.query(FooterKey)]


async def test_footer_follows_edits_fields_and_the_end() -> None:
    async with lab() as it:
        assert footer(it)[0] == "Space Pause" and "r Restart" not in footer(it)
        it.screen.config_pane.set_value("model.d_model", 32)
        await it.tell()
        assert "r Restart" in footer(it)
        await it.press("4", "i")
        assert footer(it) == ["Enter generate", "Tab next field", "Esc leave", "F1 help"]
        await it.press("escape")
        await it.tell(ev.Paused(step=30))
        assert footer(it)[0] == "Space Resume"
        await it.tell(ev.Resumed(step=30))
        it.source.items.append(ev.Stopped(step=30, reason="done"))
        it.screen.tick()
        await it.pilot.pause()
        assert "running" in it.text("#status") and footer(it)[0] == "Space Pause", "both are of one frame"
        await it.tell()
        assert "done" in it.text("#status") and footer(it)[0] == "r Again"


async def test_click_in_the_footer_presses_the_key() -> None:
    async with lab() as it:
        await it.pilot.click(it.screen.query(FooterKey)[1])
        await it.tell()
        assert it.source.sent == [cmd.Step(1)]


PRINTABLE = "".join(map(chr, range(32, 127)))


async def type_everything(it: Lab) -> None:
    with it.pilot.app.batch_update():  # Lays out once, and not after each key.
        for letter in PRINTABLE:
            it.pilot.app.post_message(Key("space" if letter == " " else letter, letter))
        await it.pilot.pause()  # Until the app has got them; then `tell` waits until they are carried out.
        await it.tell()


@pytest.mark.slow
async def test_no_printable_key_in_any_field_is_a_command(monkeypatch: Any) -> None:
    async with lab() as it:
        it.source.playback = FakePlayback()
        done: list[str] = []
        for field, pane in (("#value", 1), ("#search", 1), ("#goto", 3), ("#prompt", 4), ("#every", 4)):
            it.screen.go_to(pane)
            box = it.screen.query_one(field, Input)
            box.display = True
            it.screen.set_focus(box)
            monkeypatch.setattr(it.screen, "action_do", done.append)
            await type_everything(it)
            assert it.screen.is_current and box.has_focus, field
            box.value = ""
        it.screen.go_to(5)
        await it.press("slash")
        await type_everything(it)
        assert done == [] and it.source.sent == [] and isinstance(it.screen.focused, Input)

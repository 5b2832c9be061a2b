"""The palette over the lab: what its lines do, also when the keys come in one burst."""

from collections.abc import Callable

from textual.command import CommandInput
from textual.events import Key
from textual.widgets import Input

from tests.app.fake import FakePlayback, Lab, lab
from tui_lab.app.palette.offers import find
from tui_lab.app.palette.screen import CommandLine
from tui_lab.app.palette.verbs import verbs_of
from tui_lab.core import commands as cmd
from tui_lab.core.config.schema import Config


def type_keys(it: Lab, *keys: str) -> None:
    """Send all keys at once, as a slow connection does."""
    for key in keys:
        it.pilot.app.post_message(Key("space" if key == " " else key, key if len(key) == 1 else None))


async def until(it: Lab, condition: Callable[[], bool]) -> None:
    for _ in range(1000):
        if condition():
            return
        await it.pilot.pause()
    raise AssertionError("it did not happen")


async def test_line_typed_in_one_burst_is_carried_out() -> None:
    async with lab("reverse", "optim.lr=0.002") as it:
        type_keys(it, "colon", *"set optim.lr 0.001", "enter")
        await until(it, lambda: bool(it.source.sent))
        await it.tell()
        assert it.source.sent == [cmd.Set("optim.lr", 0.001)] and it.screen.is_current


async def test_commands_with_an_argument_act_on_the_lab() -> None:
    async with lab("reverse") as it:

        def run(line: str) -> None:
            [offer] = find(verbs_of(it.screen), line).offers
            assert offer.run is not None, offer.about
            offer.run()

        run("model.d_model 32")
        edited = it.screen.config_pane.edited
        assert isinstance(edited, Config) and edited.model.d_model == 32 and it.source.sent == []
        run("go 500")
        assert it.screen.batch_pane.chosen_step == 499 and it.screen.active_pane is it.screen.batch_pane
        [inside], [after_end] = (find(verbs_of(it.screen), f"go {step}").offers for step in (2500, 2501))
        assert "2,500" in after_end.about.replace("2,501", "") and inside.about.count("2,500") == 1
        it.source.playback = FakePlayback(paused=True)
        [paused] = find(verbs_of(it.screen), "seek 9").offers
        it.source.playback = FakePlayback()
        [playing] = find(verbs_of(it.screen), "seek 9").offers
        assert "play" in playing.about and "play" not in paused.about
        it.source.playback = None
        run("filter dropout")
        await it.pilot.pause()
        assert it.screen.config_pane.key == "model.dropout"
        run("theme high-contrast")
        assert it.pilot.app.theme == "high-contrast"
        run("generate 4821")
        assert it.screen.generation_pane.replies[-1].request.prompt == "4821"


async def test_tab_and_enter_complete_and_a_problem_is_not_run() -> None:
    async with lab() as it:
        await it.press("colon")
        field = it.pilot.app.screen.query_one(CommandInput)
        type_keys(it, *"set optim.l", "tab")
        await until(it, lambda: field.value == "set optim.lr ")
        type_keys(it, *"much", "enter", *["backspace"] * 20, *"every", "enter")
        await until(it, lambda: field.value == "every ")
        assert it.source.sent == []
        type_keys(it, "7", "enter")
        await until(it, lambda: it.screen.is_current)
        await it.tell()
        assert it.screen.query_one("#every", Input).value == "7"


async def test_ctrl_p_opens_the_palette_anywhere_and_colon_is_typed_in_a_field() -> None:
    async with lab() as it:
        await it.press("4", "i", "ctrl+p")
        assert isinstance(it.pilot.app.screen, CommandLine)
        await it.press("escape", "escape")
        await it.press("4", "i", "colon")
        assert it.screen.is_current and it.screen.query_one("#prompt", Input).value.endswith(":")

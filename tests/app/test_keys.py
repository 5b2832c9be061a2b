"""What each key of `tui_lab.app.actions` sends to the trainer or changes on the screen."""

from typing import Any

import pytest
from textual.events import Key
from textual.widgets import DataTable, Input, Static
from textual.widgets._footer import FooterKey

from tests.app.fake import help_text, lab, ready, update
from tests.core.tiny import trainer
from tui_lab.app.actions import BY_ID, COMMANDS, applies
from tui_lab.app.app import LabApp
from tui_lab.app.panes.cells import Cells
from tui_lab.app.panes.config import ConfigPane
from tui_lab.app.screens.dialogs import Ask, AskLine, AskToClose
from tui_lab.app.screens.help import Help
from tui_lab.app.screens.help_text import inline
from tui_lab.app.screens.lab import LabScreen
from tui_lab.app.screens.lab_actions import LabActions
from tui_lab.app.session.messages import SessionFailed
from tui_lab.app.session.source import Role
from tui_lab.core import commands as cmd
from tui_lab.core import events as ev

SENT: dict[str, cmd.Command] = {
    "space": cmd.Pause(),
    "s": cmd.Step(1),
    "S": cmd.Step(10),
    "e": cmd.Evaluate(),
    "c": cmd.Save(),
    "H": cmd.Scale("optim.lr", 0.5),
    "L": cmd.Scale("optim.lr", 2.0),
    "d": cmd.Shift("model.dropout", -0.05),
    "D": cmd.Shift("model.dropout", 0.05),
    "b": cmd.Scale("train.batch_size", 0.5),
    "B": cmd.Scale("train.batch_size", 2.0),
    "o": cmd.Cycle("data.overfit", (0, 1)),
    "u": cmd.Undo(),
}
"""What each key sends."""


async def test_keys_send_their_commands_in_order_but_not_those_typed_in_a_field() -> None:
    async with lab("reverse", "optim.lr=0.002", "model.dropout=0.1", "train.batch_size=64") as it:
        await it.press(*SENT)
        assert it.source.sent == list(SENT.values())

        it.source.sent.clear()
        await it.press("4", "i", "s", "l", "q")
        assert it.source.sent == [] and it.screen.query_one("#prompt", Input).value.endswith("slq")
        await it.press("escape", "s")
        assert it.source.sent == [cmd.Step(1)]
        assert set(LabActions(it.screen).actions) == set(BY_ID), "every command has an action"
        titles = [c.title for c in it.pilot.app.get_system_commands(it.screen)]
        assert "Double lr (L)" in titles and "Faster (>)" not in titles


async def test_space_resumes_a_paused_run_and_after_the_end_steering_keys_do_nothing() -> None:
    async with lab() as it:
        await it.tell(ev.Paused(step=30))
        assert "paused" in it.text("#status")
        await it.press("q")
        assert "paused" in str(it.pilot.app.screen.query_one("#question", Static).content)
        await it.press("escape", "space")
        assert it.source.sent == [cmd.Resume()]
        await it.tell(ev.Stopped(step=30, reason="done"))
        await it.press("s", "L", "e", "space", "c")
        assert it.source.sent == [cmd.Resume()]
        await it.press("q")
        await it.pilot.app.workers.wait_for_complete()
        assert it.source.closed, "without a question"


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ("LLL", [("optim.lr", 0.01, 0.02), ("optim.lr", 0.02, 0.04), ("optim.lr", 0.04, 0.08)]),
        ("LHu", [("optim.lr", 0.01, 0.02), ("optim.lr", 0.02, 0.01), ("optim.lr", 0.01, 0.02)]),
        ("DDd", [("model.dropout", 0.0, 0.05), ("model.dropout", 0.05, 0.1), ("model.dropout", 0.1, 0.05)]),
        ("BBb", [("train.batch_size", 4, 8), ("train.batch_size", 8, 16), ("train.batch_size", 16, 8)]),
        ("oo", [("data.overfit", 0, 1), ("data.overfit", 1, 0)]),
        ("LDu", [("optim.lr", 0.01, 0.02), ("model.dropout", 0.0, 0.05), ("model.dropout", 0.05, 0.0)]),
    ],
)
def test_commands_sent_before_any_change_comes_back_add_up(
    keys: str, expected: list[tuple[str, object, object]]
) -> None:
    training = trainer()
    for key in keys:
        training.commands.put(SENT[key])
    changes = [event for event in training.events() if isinstance(event, ev.Changed)]
    assert [(change.key, change.old, change.new) for change in changes] == expected


MAIN = {
    "config": "settings",
    "loss": "chart",
    "batch": "cells",
    "generation": "replies",
    "events": "log",
    "doctor": "findings",
    "system": "system-page",
}
"""The widget of each pane that takes the focus, in the order of their number keys."""


@pytest.mark.parametrize("size", [(80, 24), pytest.param((120, 40), marks=pytest.mark.slow)])
async def test_number_keys_focus_their_panes(size: tuple[int, int]) -> None:
    async with lab(size=size) as it:
        for number, (pane, main) in enumerate(MAIN.items(), 1):
            await it.press("escape", str(number))
            assert it.pilot.app.focused is not None and it.pilot.app.focused.id == main
            assert it.screen.query_one(f"#{pane}").display
            shown = [p.id for p in it.screen.panes if p.display]
            assert shown == [pane] if size == (80, 24) else len(shown) >= 4


async def test_click_on_a_tab_shows_its_pane() -> None:
    async with lab(size=(80, 24)) as it:
        tabs = it.text("#tabs")
        for name in ("Config", "Events"):
            for x in (tabs.index(name) - 2, tabs.index(name) + len(name) - 1):
                await it.press("escape", "5" if name != "Events" else "1")
                await it.pilot.click("#tabs", offset=(x, 0))
                await it.tell()
                assert [p.title for p in it.screen.panes if p.display] == [name]


async def test_zoom_theme_and_generate_in_turn() -> None:
    async with lab() as it:
        await it.press("z")
        assert [p.id for p in it.screen.panes if p.display] == ["loss"]
        await it.press("z")
        assert all(pane.display for pane in it.screen.panes)
        themes = []
        for _ in range(3):
            await it.press("t")
            themes.append(it.pilot.app.theme)
        assert len(set(themes)) == 3 and "high-contrast" in themes
        await it.press("g")
        assert [type(command) for command in it.source.sent] == [cmd.Snapshot]
        await it.press("s")
        assert it.source.sent[-1] == cmd.Step(1)


async def test_help_shows_the_pane_all_keys_and_the_glossary() -> None:
    async with lab() as it:
        await it.press("3", "question_mark")
        screen = it.pilot.app.screen
        assert isinstance(screen, Help)
        assert "shuffle state" in help_text(screen) and "Glossary" in help_text(screen)
        assert all(inline(command.help).plain in help_text(screen) for command in COMMANDS)
        await it.press("slash", *"checkp")
        await it.pilot.press("enter")
        rows = [block for block in screen.shown if block.kind != "title"]
        assert 1 < len(rows) < 20 and all("checkp" in block.plain.lower() for block in rows)
        assert "Checkpoint" in help_text(screen).splitlines()
        await it.pilot.press("escape")
        assert "shuffle state" in help_text(screen) and screen.is_current
        await it.pilot.press("escape")
        assert it.screen.is_current


async def test_quit_asks_while_training_runs() -> None:
    async with lab() as it:

        async def answer(choice: str, key: str = "q") -> None:
            await it.press(key)
            assert isinstance(it.pilot.app.screen, Ask)
            await it.pilot.press(*["down"] * ["stop", "finish", "cancel"].index(choice), "enter")
            await it.pilot.pause()
            await it.pilot.app.workers.wait_for_complete()

        await answer("cancel")
        await answer("cancel", "ctrl+c")
        assert not it.source.closed
        await answer("finish")
        assert not it.source.closed
        await it.tell(ev.Stopped(step=30, reason="done"))
        await it.pilot.app.workers.wait_for_complete()
        assert it.source.closed


async def test_quit_dialog_follows_the_run_and_closes_with_it() -> None:
    async with lab("reverse", "train.compile=true", steps=0) as it:
        await it.press("q")
        dialog = it.pilot.app.screen
        assert isinstance(dialog, AskToClose)
        before = str(dialog.query_one("#question", Static).content)
        await it.tell(update(1), update(2), update(3))
        dialog.ask_again()
        after = str(dialog.query_one("#question", Static).content)
        assert "compiled" in before and "compiled" not in after and after
        await it.tell(ev.Stopped(step=3, reason="done"))
        dialog.ask_again()
        await it.pilot.pause()
        assert it.screen.is_current and not it.source.closed


@pytest.mark.parametrize(
    "keys", [("q", "enter"), ("ctrl+c", "ctrl+c"), pytest.param(("q", "q"), marks=pytest.mark.slow)]
)
async def test_quit_and_stop_closes_the_run(keys: tuple[str, str]) -> None:
    async with lab() as it:
        await it.press(keys[0])
        await it.pilot.press(keys[1])
        await it.pilot.pause()
        await it.pilot.app.workers.wait_for_complete()
        assert it.source.closed


async def test_quit_detaches_from_a_run_of_another_process_or_stops_it() -> None:
    async with lab() as it:
        it.source.role = "steering"
        await it.press("q")
        await it.pilot.press("enter")
        await it.pilot.pause()
        await it.pilot.app.workers.wait_for_complete()
        assert it.source.closed and cmd.Stop() not in it.source.sent
    async with lab() as it:
        it.source.role = "steering"
        await it.press("q")
        await it.pilot.press("down", "enter")
        await it.pilot.pause()
        assert it.source.sent == [cmd.Stop()]


@pytest.mark.parametrize(("keys", "sent"), [(("enter",), [cmd.Resume()]), (("down", "enter"), [])])
async def test_leaving_a_paused_run_of_another_process_resumes_it_or_says_that_it_stays_paused(
    keys: tuple[str, ...], sent: list[cmd.Command]
) -> None:
    async with lab() as it:
        it.source.role = "steering"
        await it.tell(ev.Paused(step=30))
        await it.press("q")
        assert "paused" in str(it.pilot.app.screen.query_one("#question", Static).content)
        await it.pilot.press(*keys)
        await it.pilot.pause()
        await it.pilot.app.workers.wait_for_complete()
        assert it.source.sent == sent and it.source.closed
        assert isinstance(it.pilot.app, LabApp)
        [line] = it.pilot.app.exit_lines
        assert "tui-lab app runs/reverse-1" in line and "30" in line and ("paused" in line) == (not sent)


async def test_run_that_is_being_opened_is_paused_before_its_first_step_or_left_at_once() -> None:
    async with lab() as it:
        await it.tell(ready())
        await it.press("space")
        assert it.source.sent == [cmd.Pause()] and "pauses before the first step" in it.text("#status")
        await it.press("space", "s")
        assert it.source.sent == [cmd.Pause(), cmd.Resume()] and "pauses" not in it.text("#status")
        await it.press("q")
        await it.pilot.app.workers.wait_for_complete()
        assert it.source.closed


async def test_save_config_writes_toml_and_keeps_an_existing_file(tmp_path: Any, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    async with lab() as it:
        for _ in range(2):
            await it.press("ctrl+s")
            assert isinstance(it.pilot.app.screen, AskLine)
            await it.pilot.press("enter")
        from tui_lab.core.config import settings

        assert settings.load("reverse-1.toml") == it.screen.query_one(ConfigPane).edited
        assert [n.severity for n in it.pilot.app._notifications][-1] == "error"


@pytest.fixture
def restarts(monkeypatch: pytest.MonkeyPatch) -> list[LabScreen.Restart]:
    """The restarts that a lab asks for; none is carried out."""
    messages: list[LabScreen.Restart] = []
    monkeypatch.setattr(LabApp, "on_lab_screen_restart", lambda app, message: messages.append(message))
    return messages


async def test_fork_of_a_finished_run_asks_for_more_steps(restarts: list[LabScreen.Restart]) -> None:
    async with lab("reverse", "train.steps=30") as it:
        await it.tell(ev.Stopped(step=30, reason="done"))
        for typed in ("0", "500"):
            await it.press("f")
            assert isinstance(it.pilot.app.screen, AskLine) and restarts == []
            it.pilot.app.screen.query_one(Input).value = typed
            await it.press("enter")
        [message] = restarts
        assert message.config.train.steps == 530 and message.fork


async def test_restart_and_fork_use_the_edited_config_and_a_run_elsewhere_goes_on(
    restarts: list[LabScreen.Restart],
) -> None:
    roles: tuple[Role, ...] = ("replay", "steering", "watching")
    async with lab() as it:
        settings_pane = it.screen.query_one(ConfigPane)
        settings_pane.set_value("model.head_std", 0.1)
        await it.press("f")
        assert restarts[-1].config.model.head_std == 0.1 and restarts[-1].fork
        settings_pane.set_value("model.d_model", 32)
        await it.press("r")
        assert restarts[-1].config.model.d_model == 32 and not restarts[-1].fork
        sent_before = list(it.source.sent)
        await it.press("f")
        assert len(restarts) == 2 and it.source.sent == sent_before, "a fork keeps the model"
        [toast] = it.pilot.app._notifications
        assert "model.d_model = 32" in toast.message
        for n_before, role in enumerate(roles, 2):
            it.source.role = role
            await it.press("r")
            if role != "replay":
                assert isinstance(it.pilot.app.screen, Ask), "the run continues in its process"
                assert len(restarts) == n_before
                await it.press("enter")
            assert len(restarts) == n_before + 1
            assert restarts[-1].config.model.d_model == 32 and not restarts[-1].fork


async def test_run_that_failed_to_open_offers_only_keys_that_work() -> None:
    async with lab(loaded=False, steps=0) as it:
        await it.tell(SessionFailed("the checkpoint does not fit"))
        offered = {c.title for c in it.pilot.app.get_system_commands(it.screen)}
        assert not offered & {f"{BY_ID[id].title} ({BY_ID[id].keys})" for id in ("restart", "fork", "generate")}
        footer = {key.description for key in it.screen.query(FooterKey)}
        assert footer == {"Events", "Home", "Help", "Quit"}


async def test_restart_asks_if_a_minute_of_training_is_not_in_a_checkpoint(restarts: list[LabScreen.Restart]) -> None:
    async with lab(steps=0) as it:
        await it.tell(*(update(step, seconds=6.2) for step in range(1, 12)))
        await it.press("r")
        assert isinstance(it.pilot.app.screen, Ask) and restarts == []
        await it.press("enter")
        assert len(restarts) == 1
        await it.tell(ev.Saved(step=11, path="checkpoint"))
        await it.press("r")
        assert len(restarts) == 2


def test_every_key_has_one_command_and_every_command_a_help_text() -> None:
    roles: tuple[Role, ...] = ("training", "steering", "watching", "replay")
    for role in roles:
        applying = [command for command in COMMANDS if applies(command.needs, phase="running", role=role)]
        keys = [key for command in applying if command.keys for key in command.keys.split(",")]
        assert len(keys) == len(set(keys))
    assert len(BY_ID) == len(COMMANDS)
    assert all(command.help.endswith(".") for command in COMMANDS)


@pytest.mark.parametrize("phase", ["loading", "running", "paused", "ended", "failed"])
def test_commands_apply_by_phase(phase: str) -> None:
    going = phase in ("running", "paused")
    assert applies("live", phase=phase, role="training") == going
    assert applies("live", phase=phase, role="steering") == going
    assert applies("steering", phase=phase, role="steering") == going
    assert not applies("steering", phase=phase, role="watching")
    for role in ("watching", "replay"):
        assert not applies("live", phase=phase, role=role)
    assert applies("steering", phase=phase, role="replay") == (phase != "loading")
    assert applies("replay", phase=phase, role="replay") and not applies("replay", phase=phase, role="steering")
    assert applies("run", phase=phase, role="watching") and not applies(
        "run", phase=phase, role="replay", is_open=False
    )
    assert applies("nothing", phase=phase, role="replay", is_open=False)


async def test_burst_of_keys_goes_into_the_field_that_it_opens(monkeypatch: Any) -> None:
    messages: list[Any] = []
    monkeypatch.setattr(LabApp, "on_lab_screen_restart", lambda app, message: messages.append(message))
    async with lab() as it:
        bursts = (("1", "slash", "#search"), ("3", "slash", "#goto"), ("4", "i", "#prompt"), ("1", "enter", "#value"))
        for pane, opening, field in bursts:
            for key in (pane, opening, "r", "7", "o"):
                it.pilot.app.post_message(Key(key, "/" if key == "slash" else key if len(key) == 1 else None))
            await it.pilot.pause()
            await it.tell()
            value = it.screen.query_one(field, Input).value
            assert value.endswith("7" if field == "#goto" else "r7o"), field
            await it.press("escape", "escape")
        assert messages == [] and it.source.sent == []


@pytest.mark.parametrize("size", [(80, 24), pytest.param((200, 50), marks=pytest.mark.slow)])
async def test_burst_of_keys_goes_to_the_panes_in_order(size: tuple[int, int]) -> None:
    async with lab(size=size) as it:
        table = it.screen.query_one("#settings", DataTable)
        for key in ("3", "l", "l", "1", "j", "j", "k", "j", "2", "6"):
            it.pilot.app.post_message(Key(key, key))
        await it.pilot.pause()
        await it.tell()
        assert table.cursor_row == 2
        assert it.screen.query_one(Cells).selected == 2
        assert it.screen.active_pane is it.screen.doctor_pane
        assert it.screen.doctor_pane.display and it.screen.doctor_pane.has_focus_within

"""The config pane: editing settings, the checks while typing, and the parameter count."""

from textual.widgets import DataTable, Input

from tests.app.fake import Lab, lab
from tui_lab.app.panes.config import ConfigPane
from tui_lab.app.session.messages import Rewound
from tui_lab.core import commands as cmd
from tui_lab.core import events as ev
from tui_lab.core.config import settings
from tui_lab.core.config.schema import Config


async def edit(it: Lab, key: str, text: str) -> None:
    """Select a setting and type a value; the cursor stays in the field."""
    it.screen.query_one("#settings", DataTable).move_cursor(row=list(settings.fields()).index(key))
    await it.pilot.press("enter")
    it.screen.query_one("#value", Input).value = ""
    await it.press(*text)


async def test_edit_sends_a_live_setting_and_keeps_another_for_a_restart() -> None:
    async with lab(size=(200, 50)) as it:
        await it.pilot.press("1")
        table = it.screen.query_one("#settings", DataTable)
        assert [row.value for row in table.rows] == list(settings.fields())

        await edit(it, "optim.lr", "0.05")
        assert it.source.sent == []
        await it.press("enter")
        assert it.source.sent == [cmd.Set("optim.lr", 0.05)]

        await edit(it, "model.d_model", "32")
        await it.press("enter")
        assert it.source.sent == [cmd.Set("optim.lr", 0.05)]
        assert "restart" in it.text("#about")


async def test_invalid_value_is_shown_while_typing_and_not_taken_and_the_parameters_follow_a_valid_one() -> None:
    async with lab(size=(200, 50)) as it:
        await it.pilot.press("1")
        await edit(it, "optim.name", "adma")
        pane = it.screen.config_pane
        assert "adam" in it.text("#problem") and pane.query_one("#editor").has_class("-wrong")
        await it.press("enter")
        assert it.source.sent == [] and it.screen.query_one("#value", Input).has_focus
        await it.press("escape")
        assert pane.edited == it.config and not it.text("#problem").strip()

        assert "101,450" in it.text("#parameters")
        await edit(it, "model.n_layers", "4")
        assert "101,450" not in it.text("#parameters")
        await it.press("escape", "p")
        assert "W_Q" in it.text("#parameters")


async def test_changed_settings_are_kept_filtered_and_reset() -> None:
    async with lab() as it:
        await it.pilot.press("1")
        pane = it.screen.query_one(ConfigPane)
        pane.set_value("model.d_model", 32)
        await it.tell(ev.Changed(step=30, key="optim.lr", old=0.003, new=0.006))
        assert isinstance(pane.edited, Config)
        assert (pane.edited.optim.lr, pane.edited.model.d_model) == (0.006, 32)

        await it.press("v")
        table = it.screen.query_one("#settings", DataTable)
        assert [row.value for row in table.rows] == ["model.d_model", "optim.lr"]
        await it.press("x")
        assert [row.value for row in table.rows] == ["optim.lr"]
        assert pane.edited.model.d_model == it.config.model.d_model


async def test_a_live_key_in_a_replay_changes_nothing_and_u_takes_back_an_edit() -> None:
    async with lab(size=(200, 50)) as it:
        it.source.role = "replay"
        pane = it.screen.config_pane
        pane.can_steer = False
        await it.press("H")
        assert pane.settings is not None and not pane.settings.edits and not it.pilot.app._notifications
        pane.enter("model.dropout", "0.3")
        pane.enter("optim.lr", "0.0007")
        await it.press("u")
        assert list(pane.settings.edits) == ["model.dropout"]
        await it.press("u")
        assert not pane.settings.edits


async def test_edits_in_a_replay_stay_when_it_moves_until_they_are_reset() -> None:
    async with lab(size=(200, 50)) as it:
        it.source.role = "replay"
        it.screen.config_pane.can_steer = False
        ready, started = it.screen.state.ready, it.screen.state.started
        assert ready is not None and started is not None
        pane = it.screen.config_pane
        old = it.config.optim.lr
        changed = ev.Changed(step=31, key="optim.lr", old=old, new=0.004)
        await it.tell(changed)
        pane.enter("optim.lr", "0.0007")

        def shown() -> tuple[float, float]:
            assert isinstance(pane.edited, Config)
            return pane.edited.optim.lr, pane.edited.model.dropout

        await it.tell(Rewound(ready, (started,)))
        assert shown() == (0.0007, it.config.model.dropout)
        dropout = ev.Changed(step=20, key="model.dropout", old=it.config.model.dropout, new=0.15)
        await it.tell(dropout, changed)
        assert shown() == (0.0007, 0.15)
        assert pane.settings is not None and pane.settings.wait_for_restart
        same = ev.Changed(step=32, key="optim.lr", old=0.004, new=0.0007)
        await it.tell(same)
        assert pane.settings.edits == {"optim.lr": 0.0007}, "the fork may start where it has another value"

        await it.tell(Rewound(ready, (started, changed)))
        await it.pilot.press("1")
        select(it, "optim.lr")
        await it.press("x")
        assert shown() == (0.004, it.config.model.dropout) and not pane.settings.edits
        await it.tell(Rewound(ready, (started,)))
        assert shown() == (old, it.config.model.dropout)


STEPS: dict[str, cmd.Command] = {
    "model.dropout": cmd.Shift("model.dropout", 0.05),
    "optim.lr": cmd.Scale("optim.lr", 2.0),
    "optim.weight_decay": cmd.Shift("optim.weight_decay", 0.01),
    "data.shuffle": cmd.Cycle("data.shuffle", ("epoch", "once", "off")),
}


def select(it: Lab, key: str) -> None:
    it.screen.query_one("#settings", DataTable).move_cursor(row=list(settings.fields()).index(key))


async def test_plus_and_minus_change_the_selected_setting() -> None:
    async with lab("reverse", "optim.weight_decay=0", size=(200, 50)) as it:
        await it.pilot.press("1")
        for key, command in STEPS.items():
            select(it, key)
            await it.press("plus")
            assert it.source.sent[-1] == command
        assert len(it.source.sent) == len(STEPS)

        select(it, "model.n_heads")
        await it.press("plus", "plus", "minus")
        edited = it.screen.config_pane.edited
        assert isinstance(edited, Config) and edited.model.n_heads == 2 * it.config.model.n_heads
        assert len(it.source.sent) == len(STEPS), "a setting that needs a restart is only edited"

        select(it, "data.path")
        await it.press("plus")
        assert it.text("#problem").strip()


async def test_list_shows_whole_names_moves_by_letters_and_is_searched() -> None:
    async with lab(size=(120, 40)) as it:
        await it.pilot.press("1")
        table = it.screen.query_one("#settings", DataTable)
        shown = ""
        for _ in range(3):
            shown += it.text("#settings")
            await it.press("pagedown")
        assert all(key.partition(".")[2] in shown for key in settings.fields() if "." in key)
        assert "●" in shown

        table.move_cursor(row=0)
        await it.press("j", "j", "k", "h", "l")
        assert table.cursor_row == 1
        assert it.source.sent == [] and it.screen.config_pane.edited == it.config

        await it.press("slash", *"LR")
        listed = [row.value for row in table.rows]
        assert "optim.lr" in listed and all("lr" in str(key) for key in listed)
        await it.press("enter", "j", "escape")
        assert len(table.rows) == len(settings.fields())


async def test_requested_value_is_shown_until_the_trainer_confirms_it() -> None:
    async with lab() as it:
        await it.press("L", "L", "L")
        assert it.source.sent == [cmd.Scale("optim.lr", 2.0)] * 3
        assert "optim.lr 0.002 → 0.016 requested" in it.text("#readout")
        assert "→ 0.016" in it.text("#settings")
        changes = [ev.Changed(step=30, key="optim.lr", old=old, new=2 * old) for old in (0.002, 0.004, 0.008)]
        await it.tell(*changes)
        assert "optim.lr 0.002 → 0.016" in it.text("#readout")
        assert "requested" not in it.text("#readout") and "→" not in it.text("#settings")

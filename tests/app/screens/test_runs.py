"""The runs screen over run folders on disk."""

import csv
import os
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from syrupy.assertion import SnapshotAssertion
from textual.events import Key
from textual.pilot import Pilot
from textual.widgets import ContentSwitcher, DataTable, Input

from tests.app.fake import AppWithoutHome, lab, painted, widened
from tests.app.run_folders import folder, trained
from tests.app.screens.test_attention import PlainText
from tests.core.recorded import recorded_script, script_config, update
from tui_lab.app.app import LabApp
from tui_lab.app.screens.dialogs import Ask, AskLine
from tui_lab.app.screens.help import Help
from tui_lab.app.screens.home import Home, Pick
from tui_lab.app.screens.runs.replies import RepliesView
from tui_lab.app.screens.runs.screen import RunsScreen
from tui_lab.app.screens.runs.settings_diff import DiffView, column_widths
from tui_lab.app.screens.runs.table import RunTable
from tui_lab.app.widgets import chart
from tui_lab.app.widgets.chart import Chart, Curve
from tui_lab.app.widgets.footer import KeyLine
from tui_lab.core import events as ev
from tui_lab.core.runs import catalog
from tui_lab.core.runs import folder as runs
from tui_lab.core.runs.run_files import LOCK

TRIAL = "sweep-1/trials/0001-lr-0.5"


@dataclass
class Shown:
    """The runs screen; its folder is read when `settle` is called."""

    pilot: Pilot[None]
    screen: RunsScreen

    async def settle(self) -> None:
        """Read the runs folder again and show it."""
        reader = self.screen.reader
        reader.read_soon()
        n_started = reader.n_started
        while reader.n_started == n_started:
            reader.join()
            self.screen.tick()
        reader.join()
        self.screen.tick()
        await self.pilot.pause()
        await widened(self.pilot, self.screen.query_one(RunTable))

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)
        await self.settle()

    async def judge(self) -> None:
        """Wait for the verdict about the marked runs."""
        judging = self.screen.query_one(DiffView).judging
        assert judging is not None
        judging.join()
        await self.settle()

    def text(self, selector: str) -> str:
        widget = self.screen.query_one(selector)
        return "\n".join(widget.render_line(y).text.rstrip() for y in range(widget.size.height))

    def names(self) -> list[str]:
        return [row.name for row in self.screen.runs.shown]

    def marked(self) -> list[tuple[str, str]]:
        return [(run.mark.letter, run.row.name) for run in self.screen.marked]


def three() -> None:
    folder("good", 0.25, "optim.lr=0.02")
    folder("middle", 0.5, "optim.lr=0.01", "model.dropout=0.1")
    folder(TRIAL, 1.5, "optim.lr=0.5")


@asynccontextmanager
async def runs_screen(size: tuple[int, int] = (120, 40), *, home: bool = False) -> AsyncIterator[Shown]:
    """The screen alone, or over Home."""
    app = (LabApp if home else AppWithoutHome)(clock=lambda: 0.0)
    async with app.run_test(size=size) as pilot:
        screen = RunsScreen(lambda: 0.0, lambda: 0.0)
        await app.push_screen(screen)
        it = Shown(pilot, screen)
        await it.settle()
        yield it


async def test_table_has_a_row_per_run_even_if_damaged_and_follows_the_folder() -> None:
    three()
    (runs.runs_folder() / "broken").mkdir()
    (runs.runs_folder() / "broken" / "config.toml").write_text("no toml [", "utf-8")
    async with runs_screen() as it:
        assert sorted(it.names()) == ["broken", "good", "middle", TRIAL]
        shown = it.text("#table")
        assert "damaged" in shown and "0.25" in shown and "25%" in shown and "4 runs" in it.text("#head")

        it.screen.runs.sort_by("name")
        it.screen.redraw()
        await it.press("end")
        assert it.screen.query_one(RunTable).highlighted == runs.runs_folder() / TRIAL
        folder("another", 0.1)
        await it.settle()
        assert it.names()[0] == "another"
        assert it.screen.query_one(RunTable).highlighted == runs.runs_folder() / TRIAL, "the cursor stays on its run"


async def test_sort_and_filter_by_keys_and_clicks() -> None:
    three()
    async with runs_screen() as it:
        it.screen.runs.sort_by("train_loss")
        await it.press("O")
        assert "train ↓" in it.text("#table") and "by train ↓" in it.text("#head")
        await it.press("o")
        assert it.screen.runs.order == "val_loss"
        table = it.screen.query_one(RunTable)
        column = table.ordered_columns[1]
        table.post_message(DataTable.HeaderSelected(table, column.key, 1, column.label))
        await it.pilot.pause()
        assert it.screen.runs.order == "name" and it.names() == sorted(it.names())

        await it.press("slash", *"optim.lr<0.015", "enter")
        assert it.names() == ["middle"] and table.has_focus and "1 of 3 runs" in it.text("#head")
        await it.press("slash", "end", "space", *"lr<1")
        assert "✗" in it.text("#head")
        await it.press("escape")
        assert len(it.names()) == 3 and not it.screen.query_one("#where").display and "✗" not in it.text("#head")

        # In a burst, too, keys of the table such as `e` and `X` are letters of names.
        for key in ("slash", *"middleX", "backspace", "enter"):
            it.pilot.app.post_message(Key(key, key if len(key) == 1 else None))
        await it.settle()
        assert it.names() == ["middle"] and it.screen.is_current and it.screen.query_one(RunTable).has_focus


async def test_marked_runs_are_drawn_in_one_chart(monkeypatch: pytest.MonkeyPatch) -> None:
    three()
    ends: list[set[tuple[float, float]]] = []
    draw = Chart.draw

    def record(chart: Chart, curves: Sequence[Curve], **options: Any) -> None:
        ends.append({(curve.points[-1][0], round(curve.points[-1][1], 6)) for curve in curves if curve.points})
        draw(chart, curves, **options)

    monkeypatch.setattr(Chart, "draw", record)
    async with runs_screen() as it:
        it.screen.runs.sort_by("train_loss")
        it.screen.redraw()
        await it.press("home", "space", "space")
        assert it.marked() == [("a", "good"), ("b", "middle")] and ends[-1] == {(8.0, 0.25), (8.0, 0.5)}
        legend = it.text("#legend-of-runs").replace("\xa0", " ")
        assert "a good 0.25" in legend and "b middle 0.5" in legend
        assert {"a", "b"} <= set(it.text("#overlay")), "each curve has its letter at its end"
        plot = it.screen.query_one(Chart).plot
        await it.pilot.hover("#overlay", offset=(plot.left, 1))
        assert "step 1  a good 1.781  b middle 1.812" in it.text("#legend-of-runs")
        await it.pilot.hover("#head")
        await it.press("x")
        assert ends[-1] == {(8.0, 0.35), (8.0, 0.6)} and "validation loss" in it.text("#legend-of-runs")

        await it.press("home", "space", "end", "space")
        assert it.marked() == [("a", TRIAL), ("b", "middle")], "a free letter is used again"
        await it.press("backspace")
        legend = it.text("#legend-of-runs").replace("\xa0", " ")
        assert it.marked() == [] and legend.split("(x Y)  ")[1].startswith(f"● {TRIAL} 1.6  Space marks")
        assert ends[-1] == {(8.0, 1.6)}, "the run under the cursor is drawn"
        await it.press("up")
        assert ends[-1] == {(8.0, 0.6)}


async def test_zoomed_chart_of_the_runs_says_so() -> None:
    folder("good", 0.25)
    async with runs_screen() as it:
        await it.press("space")
        chart = it.screen.query_one(Chart)
        chart.show_range(2, 4)
        await it.pilot.pause()
        assert "zoomed · 0 shows all" in it.text("#legend-of-runs")
        chart.action_show_all()
        await it.pilot.pause()
        assert "zoomed" not in it.text("#legend-of-runs")
        await it.press("d", "space", "v")
        assert it.text("#legend-of-runs").strip().count("\n") == 0, "on one line, as wide as before"


async def test_diff_has_a_row_per_setting_and_a_column_per_marked_run() -> None:
    three()
    async with runs_screen() as it:
        await it.press("d")
        assert "mark two or more runs" in it.text("#same")
        it.screen.runs.sort_by("train_loss")
        it.screen.redraw()
        await it.press("home", "space", "space", "space")
        table = it.screen.query_one("#differing", DataTable)
        rows = [[str(cell) for cell in table.get_row_at(i)] for i in range(table.row_count)]
        assert rows == [["optim.lr", "0.02", "0.01", "0.5"], ["model.dropout", "0.0", "0.1", "0.0"]] or rows == [
            ["model.dropout", "0.0", "0.1", "0.0"],
            ["optim.lr", "0.02", "0.01", "0.5"],
        ]
        assert [str(column.label)[0] for column in table.ordered_columns[1:]] == ["a", "b", "c"]
        await it.judge()
        verdict = it.text("#verdict")
        assert "middle against good (1 and 1 seeds)" in verdict and TRIAL in verdict


def test_columns_of_the_diff_share_what_the_short_ones_leave() -> None:
    assert column_widths([20, 60, 30], 120) == [20, 60, 30]
    assert column_widths([20, 60, 30], 90) == [20, 40, 30]
    assert column_widths([60, 20, 70], 100) == [40, 20, 40]
    assert column_widths([3, 60, 70], 20) == [3, 16, 16], "the table scrolls"
    assert column_widths([], 20) == []


async def test_diff_shows_live_changes_and_escape_closes_it() -> None:
    for name, values in (("a", ()), ("b", (0.02, 0.04)), ("c", (0.01, 0.02, 0.03, 0.04, 0.05))):
        run = folder(name, 0.25, "optim.lr=0.01")
        old = 0.01
        for step, new in enumerate(values, 97):
            list(run.record([ev.Changed(step=step, key="optim.lr", old=old, new=new)]))
            old = new
    async with runs_screen() as it:
        it.screen.runs.sort_by("name")
        it.screen.redraw()
        await it.press("d", "home")
        table = it.screen.query_one("#differing", DataTable)
        assert not table.display, "no table without rows"
        await it.press("space", "space", "space")
        assert table.display and [str(cell) for cell in table.get_row_at(0)] == [
            "optim.lr",
            "0.01",
            "0.01 → 0.02 at 97 → 0.04 at 98",
            "0.01 → … → 0.05 at 101 (4 changes)",
        ]
        assert it.text("#same").strip() == "same settings at the start, 6 live changes"
        await it.press("slash", *"state=done", "enter")
        lower = it.screen.query_one("#lower", ContentSwitcher)
        await it.press("escape")
        assert lower.current == "curves" and it.screen.runs.filter
        await it.press("escape")
        assert not it.screen.runs.filter and it.screen.is_current


async def test_table_and_curve_of_a_run_in_training_show_the_same_values() -> None:
    run = folder("live", 0.25)
    with FileLock(run.path / LOCK):
        async with runs_screen() as it:
            change = ev.Changed(step=8, key="optim.lr", old=0.001, new=0.03)
            list(run.record([ev.StepDone(**{**vars(update(9)), "loss_ema": 8.269e-05}), change]))
            it.screen.reader.read_curves_soon()
            while it.screen.runs.rows[0].steps != 9:
                it.screen.tick()
                it.screen.reader.join()
            await widened(it.pilot, it.screen.query_one(RunTable))
            assert it.screen.runs.rows[0].train_loss == 8.269e-05
            assert it.screen.runs.rows[0].setting("optim.lr") == 0.03
            assert "8.269e-5" in it.text("#table") and "8.269e-5" in it.text("#legend-of-runs")


async def test_tags_and_note_are_saved_with_the_run() -> None:
    run = folder("good", 0.25)
    async with runs_screen() as it:
        await it.press("t")
        assert isinstance(it.pilot.app.screen, AskLine)
        await it.press(*"best", "space", *"keep", "enter")
        await it.press("n", *"half", "space", *"lr", "enter")
        assert catalog.read_notes(run.path) == catalog.Notes(("best", "keep"), "half lr")
        assert "best keep" in it.text("#table") and "half lr" in it.text("#about")

        await it.press("t")
        it.pilot.app.screen.query_one(Input).value = "x" * 41
        await it.press("enter")
        assert [notice.severity for notice in it.pilot.app._notifications] == ["error"]
        assert it.screen.runs.rows[0].tags == ("best", "keep")


async def test_delete_asks_for_the_run_by_name_and_refuses_one_in_training() -> None:
    run, used = folder("good", 0.25), folder("in-use", 0.5)
    async with runs_screen() as it:
        it.screen.runs.sort_by("name")
        it.screen.redraw()
        await it.pilot.press("home", "X")
        assert isinstance(it.pilot.app.screen, Ask) and "good" in it.pilot.app.screen._question
        await it.pilot.press("enter")
        assert run.path.exists(), "the first choice keeps it"
        await it.pilot.press("delete", "down", "enter")
        await it.pilot.app.workers.wait_for_complete()
        await it.settle()
        assert not run.path.exists() and it.names() == ["in-use"]

        with FileLock(used.path / LOCK):
            await it.pilot.press("X")
        assert it.screen.is_current and used.path.exists()
        assert [notice.severity for notice in it.pilot.app._notifications] == ["information", "error"]
        lock = used.lock()
        await it.pilot.press("X")
        assert "open here" in list(it.pilot.app._notifications)[-1].message, "trained by this process"
        lock.release()


async def test_export_writes_the_marked_runs_and_asks_again_after_an_error(tmp_path: Path) -> None:
    three()
    (tmp_path / "folder.csv").mkdir()
    async with runs_screen() as it:
        await it.press("space", "space")
        await it.pilot.press("e")
        dialog = it.pilot.app.screen
        assert isinstance(dialog, AskLine) and ".svg" in dialog._question and ".html" not in dialog._question
        assert dialog.query_one("#box").border_subtitle == "Enter export · Esc cancel"
        for name in ("two.cvs", "two.html", "two", "folder.csv"):
            it.pilot.app.screen.query_one(Input).value = str(tmp_path / name)
            await it.pilot.press("enter")
            await it.pilot.app.workers.wait_for_complete()
            await it.pilot.pause()
            dialog = it.pilot.app.screen
            assert isinstance(dialog, AskLine) and dialog._question.startswith("✗")
            assert dialog.query_one(Input).value == str(tmp_path / name), "what was typed can be corrected"
        dialog.query_one(Input).value = str(tmp_path / "two.csv")
        await it.pilot.press("enter")
        await it.pilot.app.workers.wait_for_complete()
        with (tmp_path / "two.csv").open(newline="", encoding="utf-8") as stream:
            assert len({row["run"] for row in csv.DictReader(stream)}) == 2
        assert [notice.severity for notice in it.pilot.app._notifications] == ["information"]


async def test_columns_that_do_not_fit_are_left_out_and_details_fill_a_large_terminal() -> None:
    run = folder("a-long-name-of-a-sweep-20261126/trials/0003-lr-0.003-seed-3", 0.25, "optim.lr=0.02")
    catalog.write_notes(run.path, ["keep"], "a note")
    async with runs_screen(size=(80, 24)) as it:
        for size, titles in (
            ((80, 24), {"run", "state", "steps", "val", "started"}),
            ((120, 40), {"run", "state", "steps", "val", "best", "started", "metric"}),
        ):
            await it.pilot.resize_terminal(*size)
            await it.settle()
            shown = it.text("#table").splitlines()
            assert titles <= set(shown[0].split()) and all(len(line) <= size[0] for line in shown)
            assert "seed-3 " in shown[1] and "now" in shown[1] and not it.screen.query_one("#details").display
        await it.pilot.resize_terminal(200, 50)
        await it.settle()
        table, chart_part, details = (it.screen.query_one(id).region for id in ("#table", "#compared", "#details"))
        assert table.right <= chart_part.x and chart_part.height == table.height + details.height
        assert all(text in it.text("#details-text") for text in ("a note", "keep", "optim.lr", "0.02", "started"))


async def test_terminal_codes_in_notes_are_not_printed_and_enter_replays_and_c_resumes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = folder("plain", 0.25)
    opened: list[Pick] = []
    monkeypatch.setattr(LabApp, "open", lambda app, pick: opened.append(pick))
    (run.path / "notes.json").write_text('{"tags": ["\\u001b[31m"], "note": "[bold]\\u001b]0;x\\u0007"}', "utf-8")
    async with runs_screen() as it:
        assert "\x1b" not in it.text("#table") + it.text("#about") and "[bold]" in it.text("#about")
        await it.pilot.press("enter", "c")
        assert opened == [Pick("replay", str(run.path)), Pick("resume", str(run.path))]


async def test_no_second_run_is_opened_over_the_lab(monkeypatch: pytest.MonkeyPatch) -> None:
    folder("good", 0.25)
    opened: list[Pick] = []
    monkeypatch.setattr(LabApp, "open", lambda app, pick: opened.append(pick))
    async with lab() as it:
        await it.pilot.press("R")
        screen = it.pilot.app.screen
        assert isinstance(screen, RunsScreen)
        await Shown(it.pilot, screen).settle()
        await it.pilot.press("enter")
        assert opened == [] and [notice.severity for notice in it.pilot.app._notifications] == ["warning"]
        await it.pilot.press("escape")
        assert it.screen.is_current


async def test_every_key_is_harmless_without_runs() -> None:
    async with runs_screen(home=True) as it:
        await it.press(*"tncoOdvzzYxeXg", "space", "enter", "backspace", "escape")
        assert "No runs yet" in it.text("#about") and it.screen.is_current
        await it.pilot.press("question_mark")
        assert isinstance(it.pilot.app.screen, Help)
        await it.pilot.press("escape", "escape", "escape")
        assert isinstance(it.pilot.app.screen, Home)
        await it.pilot.press("r")
        assert isinstance(it.pilot.app.screen, RunsScreen)


async def test_marked_runs_reply_side_by_side_until_the_screen_closes() -> None:
    trained("a-run-with-a-name-of-forty-characters-20")
    trained("b", "train.seed=5")
    async with runs_screen() as it:
        it.screen.runs.sort_by("name")
        it.screen.redraw()
        await it.press("home", "space", "space", "g")
        prompt = it.screen.query_one("#one-prompt", Input)
        assert prompt.has_focus and prompt.value == "142", "digits of the task"
        keys = [f"{item.shown} {item.label}" for item in it.screen.query_one(KeyLine).items() or ()]
        assert keys == ["Enter Generate", "Tab Next field", "F1 Help", "Esc Back"]
        generation = it.screen.query_one(RepliesView).generation
        await it.pilot.press("enter")
        generation.join()
        await it.settle()
        columns = list(it.screen.query(".run-reply"))
        titles = [it.text(f"#reply-title-{mark}").strip() for mark in (0, 1)]
        assert titles == ["a a-run-with-a-name-of-forty-characters-20", "b b"]
        left, right = (column.region for column in columns)
        assert left.y == right.y and left.right <= right.x
        replies = [it.text(f".reply-{mark}").splitlines() for mark in (0, 1)]
        assert all("step 3" in weights and reply.split()[0].isdigit() for weights, reply, *_ in replies)
        assert all("✓ right" in reply[1] or "✗ expected 241" in reply[1] for reply in replies)

        await it.press("escape", "d", "g")
        assert it.text(".reply-0").splitlines() == replies[0], "earlier replies stay"
        stop = generation._stop
        await it.pilot.press("escape", "escape", "escape")
        await it.pilot.pause()
        assert stop.is_set() and not it.screen.is_attached


async def test_runs_of_scripts_are_shown_next_to_our_own() -> None:
    for name, rate in (("script-1", 0.5), ("script-2", 0.25)):
        recorded_script(runs.runs_folder() / name, config=script_config(learning_rate=rate))
    recorded_script(runs.runs_folder() / "script-3", started=False, ending="running")
    trained("trained")
    async with runs_screen() as it:
        it.screen.runs.sort_by("name")
        it.screen.redraw()
        assert it.names() == ["script-1", "script-2", "script-3", "trained"] and "damaged" not in it.text("#table")
        await it.press("home", "space", "space", "v", "d")
        table = it.screen.query_one("#differing", DataTable)
        rows = [[str(cell) for cell in table.get_row_at(i)] for i in range(table.row_count)]
        assert rows[0] == ["settings.learning_rate", "0.5", "0.25"]
        assert it.text("#same").strip() == "1 setting differs, 2 live changes"
        await it.press("space", "space", "g", *"123")
        generation = it.screen.query_one(RepliesView).generation
        await it.pilot.press("enter")
        generation.join()
        await it.settle()
        assert "script" in it.text(".reply-0") and it.text(".reply-3").split()[-1] in ("right", "321")
        await it.press("escape", "slash", *"settings.learning_rate<0.3", "enter")
        assert it.names() == ["script-2"]


@pytest.mark.parametrize("size", [(80, 24), pytest.param((200, 50), marks=pytest.mark.slow)], ids=["80x24", "200x50"])
@pytest.mark.parametrize("view", [pytest.param("v", marks=pytest.mark.slow), "d"])
async def test_looks(
    view: str,
    size: tuple[int, int],
    snapshot: SnapshotAssertion,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(chart, "has_braille", lambda: True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TUI_LAB_RUNS", "runs")
    three()
    started = time.mktime((2026, 1, 2, 3, 4, 5, 0, 0, -1))
    for config in runs.runs_folder().rglob("config.toml"):
        os.utime(config, (started, started))
    async with runs_screen(size=size) as it:
        it.screen.runs.sort_by("train_loss")
        it.screen.redraw()
        await it.press("home", "space", "space", "space", view)
        if view == "d":
            await it.judge()
        assert painted(it.pilot.app) == snapshot.use_extension(PlainText)

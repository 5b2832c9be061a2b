"""The runs screen over folders that lie on disk."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from syrupy.assertion import SnapshotAssertion
from textual.pilot import Pilot
from textual.widgets import ContentSwitcher, DataTable, Input

from tests.app.fake import lab, painted, widened
from tests.app.test_attention import Plain
from tests.core.recorded import STARTED, evaluated, recorded, update
from tests.core.tiny import tiny
from tui_lab.app.app import LabApp
from tui_lab.app.screens.chooser import Chooser, Pick
from tui_lab.app.screens.comparison import Voices
from tui_lab.app.screens.dialogs import AskLine
from tui_lab.app.screens.help import Help
from tui_lab.app.screens.run_table import RunTable, short
from tui_lab.app.screens.runs import RunsScreen
from tui_lab.app.session.messages import ReplyFinished, ReplyMessage, ReplyStarted, ReplyText
from tui_lab.app.session.multi_run_generation import MultiRunGeneration, Prompt
from tui_lab.app.session.run_curves import CurveFile
from tui_lab.app.widgets import chart
from tui_lab.app.widgets.chart import Chart
from tui_lab.core import events as ev
from tui_lab.core.runs import catalog, open_run
from tui_lab.core.runs import folder as runs
from tui_lab.core.runs.folder import Run


@dataclass
class Looking:
    pilot: Pilot[None]
    screen: RunsScreen
    now: list[float]

    async def settle(self) -> None:
        """What was found is shown. Twice: the timer's own tick may have begun to read before the last key was heard."""
        for _ in range(2):
            self.now[0] += 100.0
            self.screen.tick()
            await self.pilot.app.workers.wait_for_complete()
            await self.pilot.pause()
        await widened(self.pilot, self.screen.query_one(RunTable))

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)
        await self.settle()

    def text(self, selector: str) -> str:
        widget = self.screen.query_one(selector)
        return "\n".join(widget.render_line(y).text.rstrip() for y in range(widget.size.height))

    def names(self) -> list[str]:
        return [row.name for row in self.screen.shown]


def folder(name: str, final: float, *overrides: str, **more: Any) -> Run:
    """A run whose loss falls to `final` in eight updates."""
    events = [
        STARTED,
        *(update(step, 2.0 - (2.0 - final) * step / 8) for step in range(1, 9)),
        evaluated(8, final + 0.1),
        ev.Stopped(step=8, reason=more.pop("reason", "done")),
    ]
    return recorded(runs.runs_folder() / name, events, config=tiny(*overrides), **more)


def three() -> None:
    folder("good", 0.25, "optim.lr=0.02")
    folder("middle", 0.5, "optim.lr=0.01", "model.dropout=0.1")
    folder("sweep-1/trials/0001-lr-0.5", 1.5, "optim.lr=0.5")


@asynccontextmanager
async def looking(size: tuple[int, int] = (120, 40)) -> AsyncIterator[Looking]:
    now = [0.0]
    app = LabApp(clock=lambda: now[0])
    async with app.run_test(size=size) as pilot:
        screen = RunsScreen(lambda: now[0])
        await app.push_screen(screen)
        it = Looking(pilot, screen, now)
        await it.settle()
        yield it


async def test_every_run_is_a_row_trials_and_damaged_ones_too() -> None:
    three()
    (runs.runs_folder() / "broken").mkdir()
    (runs.runs_folder() / "broken" / "config.toml").write_text("no toml [", "utf-8")
    async with looking() as it:
        assert sorted(it.names()) == ["broken", "good", "middle", "sweep-1/trials/0001-lr-0.5"]
        shown = it.text("#table")
        assert "damaged" in shown and "0.25" in shown and "25.00%" in shown
        assert "4 runs" in it.text("#head")


async def test_order_goes_through_the_columns_and_turns_round() -> None:
    three()
    async with looking() as it:
        it.screen._order_by("train_loss")
        assert it.names() == ["good", "middle", "sweep-1/trials/0001-lr-0.5"]
        await it.press("O")
        assert it.names() == ["sweep-1/trials/0001-lr-0.5", "middle", "good"]
        assert "train ↓" in it.text("#table") and "by train ↓" in it.text("#head")
        await it.press("o")
        assert it.screen.order == "val_loss"
        table = it.screen.query_one(RunTable)
        at = [str(column.label) for column in table.ordered_columns].index("run")
        table.post_message(
            DataTable.HeaderSelected(table, table.ordered_columns[at].key, at, table.ordered_columns[at].label)
        )
        await it.settle()
        assert it.screen.order == "name" and it.names() == sorted(it.names())


async def test_the_filter_takes_words_and_conditions_as_one_types() -> None:
    three()
    async with looking() as it:
        await it.press("slash", *"optim.lr")
        await it.press(*"<0.0")
        assert sorted(it.names()) == [], "the lower bound is not written to its end, and already holds"
        await it.press(*"15")
        assert it.names() == ["middle"]
        await it.press("enter")
        assert it.screen.query_one(RunTable).has_focus and "1 of 3 runs" in it.text("#head")
        await it.press("escape")
        assert len(it.names()) == 3 and not it.screen.query_one("#where").display
        await it.press("slash", *"goo")
        assert it.names() == ["good"]


async def test_a_condition_that_is_none_is_said_and_the_rows_stay() -> None:
    three()
    async with looking() as it:
        await it.press("slash", *"lr<1")
        assert "did you mean 'optim.lr'?" in it.text("#head") and it.names() == ["sweep-1/trials/0001-lr-0.5"]
        await it.press("escape")
        assert "did you mean" not in it.text("#head")


async def test_marked_runs_are_laid_over_each_other() -> None:
    three()
    async with looking() as it:
        it.screen._order_by("train_loss")
        await it.press("home", "space", "space")
        assert [row.name for _, row in it.screen.marked] == ["good", "middle"]
        drawn = it.screen.query_one(Chart)._datasets
        ends = {(float(d.x[-1]), float(d.y[-1])) for d in drawn}
        assert {(8.0, 0.25), (8.0, 0.5)} == ends
        legend = it.text("#legend-of-runs").replace("\xa0", " ")
        assert "a good 0.25" in legend and "b middle 0.5" in legend
        assert {"a", "b"} <= set(it.text("#overlay #plot")), "each curve has its letter at its end"
        await it.press("x")
        ends = {(float(d.x[-1]), round(float(d.y[-1]), 6)) for d in it.screen.query_one(Chart)._datasets}
        assert ends == {(8.0, 0.35), (8.0, 0.6)} and "validation loss" in it.text("#legend-of-runs")
        await it.press("home", "space")
        assert [(mark, row.name) for mark, row in it.screen.marked] == [(1, "middle")]
        await it.press("end", "space")
        assert [(mark, row.name) for mark, row in it.screen.marked] == [
            (0, "sweep-1/trials/0001-lr-0.5"),
            (1, "middle"),
        ]
        await it.press("backspace")
        assert it.screen.marked == [] and "Space marks runs" in it.text("#legend-of-runs")


async def test_at_most_eight_are_marked() -> None:
    for i in range(9):
        folder(f"run-{i}", 0.1 + i / 10)
    async with looking() as it:
        await it.press(*["space"] * 9)
        assert len(it.screen.marks) == 8 and sorted(it.screen.marks.values()) == list(range(8))
        assert [n.severity for n in it.pilot.app._notifications] == ["warning"]


async def test_what_differs_is_a_table_with_a_column_a_run() -> None:
    three()
    async with looking() as it:
        await it.press("d")
        assert "mark two or more runs" in it.text("#same")
        it.screen._order_by("train_loss")
        await it.press("home", "space", "space", "space")
        table = it.screen.query_one("#differing", DataTable)
        told = {
            str(table.get_row_at(i)[0]): [str(cell) for cell in table.get_row_at(i)[1:]] for i in range(table.row_count)
        }
        assert told == {"optim.lr": ["0.02", "0.01", "0.5"], "model.dropout": ["0.0", "0.1", "0.0"]}
        assert [str(column.label)[0] for column in table.ordered_columns[1:]] == ["a", "b", "c"]


async def test_tags_and_a_note_are_kept_with_the_run() -> None:
    run = folder("good", 0.25)
    async with looking() as it:
        await it.press("t")
        assert isinstance(it.pilot.app.screen, AskLine)
        await it.press(*"best", "space", *"keep", "enter")
        await it.press("n", *"half", "space", *"lr", "enter")
        assert catalog.read_notes(run.path) == catalog.Notes(("best", "keep"), "half lr")
        assert "best keep" in it.text("#table") and "half lr" in it.text("#about")
        await it.press("slash", *"tag=keep", "enter")
        assert it.names() == ["good"]
        await it.press("t")
        it.pilot.app.screen.query_one(Input).value = ""
        await it.press("enter")
        assert catalog.read_notes(run.path) == catalog.Notes((), "half lr")


async def test_a_note_that_cannot_be_written_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    folder("good", 0.25)
    async with looking() as it:
        await it.press("t", *"x" * 41, "enter")
        assert [n.severity for n in it.pilot.app._notifications] == ["error"]
        assert it.screen.rows[0].tags == ()


@pytest.mark.parametrize(("key", "kind"), [("enter", "replay"), ("c", "resume")])
async def test_a_run_is_opened(key: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run, opened = folder("good", 0.25), list[Pick]()
    monkeypatch.setattr(LabApp, "open", lambda app, pick: opened.append(pick))
    async with looking() as it:
        await it.press(key)
        assert opened == [Pick(kind, str(run.path))]


async def test_over_an_open_run_no_other_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    folder("good", 0.25)
    opened: list[Pick] = []
    monkeypatch.setattr(LabApp, "open", lambda app, pick: opened.append(pick))
    async with lab() as it:
        await it.pilot.press("R")
        screen = it.pilot.app.screen
        assert isinstance(screen, RunsScreen)
        await it.pilot.app.workers.wait_for_complete()
        await it.pilot.pause()
        screen.tick()
        await it.pilot.app.workers.wait_for_complete()
        await it.pilot.press("enter")
        await it.pilot.pause()
        assert opened == [] and [n.severity for n in it.pilot.app._notifications] == ["warning"]
        await it.pilot.press("escape")
        assert it.screen.is_current


async def test_what_becomes_of_the_folders_is_seen_and_the_cursor_stays() -> None:
    three()
    async with looking() as it:
        it.screen._order_by("name")
        await it.press("end")
        assert it.screen.query_one(RunTable).highlighted == runs.runs_folder() / "sweep-1/trials/0001-lr-0.5"
        folder("another", 0.1)
        await it.settle()
        assert it.names()[0] == "another"
        assert it.screen.query_one(RunTable).highlighted == runs.runs_folder() / "sweep-1/trials/0001-lr-0.5"


async def test_no_runs_yet_is_said_and_no_key_does_harm() -> None:
    async with looking() as it:
        await it.press(
            "space", "t", "n", "c", "enter", "o", "O", "d", "v", "z", "z", "y", "x", "backspace", "g", "escape"
        )
        assert "No runs yet" in it.text("#about") and it.screen.is_current
        await it.press("question_mark")
        assert isinstance(it.pilot.app.screen, Help)
        await it.pilot.press("escape", "escape")
        assert isinstance(it.pilot.app.screen, Chooser)
        await it.pilot.press("r")
        assert isinstance(it.pilot.app.screen, RunsScreen)


async def test_names_and_notes_from_disk_cannot_drive_the_terminal() -> None:
    run = folder("plain", 0.25)
    (run.path / "notes.json").write_text('{"tags": ["\\u001b[31m"], "note": "[bold]\\u001b]0;x\\u0007"}', "utf-8")
    async with looking() as it:
        assert "\x1b" not in it.text("#table") + it.text("#about") and "[bold]" in it.text("#about")


# Speaking


def trained(name: str, *overrides: str) -> Path:
    opened = open_run.start("tiny", tiny("train.steps=3", *overrides), runs.runs_folder() / name)
    for _ in opened.run.record(opened.trainer.events()):
        pass
    return opened.run.path


def replies(generation: MultiRunGeneration) -> dict[str, list[ReplyMessage]]:
    """Wait for the end; return the messages of each run by its name."""
    generation.join()
    messages: dict[str, list[ReplyMessage]] = {}
    for message in generation.drain():
        messages.setdefault(message.run.name, []).append(message)
    return messages


def test_one_prompt_to_several_runs_keeps_their_errors_apart() -> None:
    from tui_lab.core.inference.sampling import Sampling

    paths = [trained("a"), trained("b", "train.seed=5"), folder("c", 0.25).path]
    generation = MultiRunGeneration()
    generation.start(Prompt("123", Sampling(0.0, 0, 1.0, 0)), paths)
    messages = replies(generation)
    for name in "ab":
        assert [type(message) for message in messages[name]] == [ReplyStarted, *[ReplyText] * 3, ReplyFinished]
        assert messages[name][-1] == ReplyFinished(runs.find(name).path)
    [failure] = messages["c"]
    assert isinstance(failure, ReplyFinished) and failure.error is not None
    generation.start(Prompt("9", Sampling(0.0, 0, 1.0, 0)), paths[:1])
    last = replies(generation)["a"][-1]
    assert isinstance(last, ReplyFinished) and last.error is not None, "the run's vocabulary has no 9"


def test_new_prompt_ends_the_one_before() -> None:
    from tui_lab.core.inference.sampling import Sampling

    path = trained("a")
    generation = MultiRunGeneration()
    generation.start(Prompt("123", Sampling(0.0, 0, 1.0, 0), 100_000), [path])
    generation.start(Prompt("321", Sampling(0.0, 0, 1.0, 0), 2), [path])
    types = [type(message) for message in replies(generation)["a"]]
    assert types == [ReplyStarted, ReplyText, ReplyText, ReplyFinished]


async def test_marked_runs_speak_side_by_side() -> None:
    trained("a"), trained("b", "train.seed=5")
    async with looking() as it:
        it.screen._order_by("name")
        await it.press("home", "space", "space", "g")
        assert it.screen.query_one("#one-prompt", Input).has_focus
        assert it.screen.query_one("#one-prompt", Input).value == "142", "digits that the task knows"
        await it.press("enter")
        it.screen.generation.join()
        await it.settle()
        columns = list(it.screen.query(".voice"))
        assert [it.text(f"#voice-{mark}").split() for mark in (0, 1)] == [["a", "a"], ["b", "b"]]
        left, right = (column.region for column in columns)
        assert left.y == right.y and left.right <= right.x
        for mark in (0, 1):
            words = it.text(f".of-{mark}").splitlines()
            assert words[0].startswith("the last weights, of step 3") and words[1].strip().isdigit()
        await it.press("escape", "d", "g")
        assert "the last weights" in it.text(".of-0"), "what was said stays"
        assert it.screen.query_one(ContentSwitcher).current == "voices"


async def test_the_voices_end_with_the_screen() -> None:
    three()
    async with looking() as it:
        stop = it.screen.generation._stop
        await it.pilot.press("escape")
        await it.pilot.pause()
        assert stop.is_set() and not it.screen.query(Voices)


def test_curves_are_read_again_only_when_the_record_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    run, file = folder("good", 0.25), CurveFile()
    first = file.read(run.path)
    assert first.train[-1] == (8.0, 0.25) and first.val == ((8.0, 0.35),) and not first.problem
    assert file.read(run.path) is first
    for _ in run.record([update(9, 0.2)]):
        pass
    assert file.read(run.path).train[-1] == (9.0, 0.2)
    (run.path / "digest.json").unlink()
    (run.path / "events.jsonl").write_text("no json\n", "utf-8")
    assert "line 1" in file.read(run.path).problem
    assert "No such file" in file.read(run.path / "nowhere").problem


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("short", "short"),
        ("x" * 40, "x" * 33 + "…"),
        ("dropout-sweep-20261125-081030/trials/0003-dropout-0.3", "dropout-sweep…/0003-dropout-0.3"),
    ],
)
def test_a_long_name_keeps_its_end(name: str, shown: str) -> None:
    assert len(short(name)) <= 34
    if "/" in name:
        assert short(name).endswith("…/0003-dropout-0.3") and short(name).startswith("dropout-sweep")
    else:
        assert short(name) == shown


@pytest.mark.parametrize("size", [(80, 24), pytest.param((200, 50), marks=pytest.mark.slow)], ids=["80x24", "200x50"])
@pytest.mark.parametrize("view", ["v", "d"])
async def test_looks(
    view: str, size: tuple[int, int], snapshot: SnapshotAssertion, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chart, "has_braille", lambda: True)
    monkeypatch.chdir(runs.runs_folder().parent)
    monkeypatch.setenv("TUI_LAB_RUNS", "runs")
    three()
    async with looking(size=size) as it:
        it.screen._order_by("train_loss")
        await it.press("home", "space", "space", "space", view)
        assert painted(it.pilot.app) == snapshot.use_extension(Plain)

"""The events pane: the log of a run."""

from dataclasses import replace
from datetime import datetime

import pytest
from textual.widgets import RichLog

from tests.app.fake import FakePlayback, evaluated, lab, ready, started, update
from tui_lab.app.panes.events import EventsPane, log_line
from tui_lab.app.session.messages import Diagnosed, Printed, Rewound, SessionFailed, SessionMessage
from tui_lab.core import events as ev
from tui_lab.core.config.script import ScriptConfig
from tui_lab.core.doctor.findings import Report


@pytest.mark.parametrize(
    ("message", "part"),
    [
        (ev.Saved(step=30, path="checkpoints/step-30"), "checkpoints/step-30"),
        (ev.Failed(step=30, message="not finite"), "not finite"),
        (ev.Stopped(step=30, reason="stopped"), "step 30: stopped"),
        (ev.Stopped(step=30, reason="patience", restored=10), "step 10"),
        (ev.Evaluated(step=30, val_loss=1.235, exact_match=None, perplexity=None, examples=8, best=True), "1.235"),
        (ev.Changed(step=30, key="optim.lr", old=1, new=2), "optim.lr"),
    ],
)
def test_log_line_names_what_happened(message: SessionMessage, part: str) -> None:
    assert part in (log_line(message) or "")


def test_steps_are_not_logged() -> None:
    assert log_line(update(31)) is None


async def test_title_line_has_no_time_and_ends_with_a_whole_word() -> None:
    async with lab(size=(120, 40)) as it:
        await it.tell(ev.Saved(step=30, path="checkpoints/step-30-with-a-long-name"))
        await it.tell(ev.Changed(step=30, key="optim.lr", old=0.001, new=0.002))
        it.screen.doctor_pane.receive(Diagnosed(it.config, Report(findings=(), not_judged=(), passed=(), seconds={})))
        await it.press("6")
        pane = it.screen.query_one(EventsPane)
        assert pane.is_line and pane.border_title == " 5 Events  step 30: optim.lr… "
        assert pane.border_title in it.painted()


async def test_log_shows_failures_and_printed_text_and_is_bounded() -> None:
    async with lab(size=(200, 50)) as it:
        print("from user code")  # noqa: T201
        await it.tell(SessionFailed("out of memory", "Traceback …"))
        assert "stdout: from user code" in it.text("#log") and "out of memory" in it.text("#log")
        assert it.screen.query_one(RichLog).max_lines == 2000
        assert it.screen.state.phase == "failed" and "✗ failed" in it.text("#status")
        await it.screen.query_one(RichLog).remove()  # As when the screen is being removed.
        it.screen.query_one(EventsPane).add("too late")


async def test_newest_lines_stay_in_view_when_the_pane_gets_lower_and_are_wrapped_again_at_another_width() -> None:
    async with lab(size=(120, 40)) as it:
        await it.tell(*(ev.Warned(step=0, message=f"number {n}") for n in range(40)))
        assert "number 39" in it.text("#log")
        for height in (34, 30, 40, 33):
            await it.pilot.resize_terminal(120, height)
            await it.tell()
            assert "number 39" in it.text("#log"), height
        log = it.screen.query_one(RichLog)
        log.scroll_home(animate=False)
        await it.pilot.pause()
        await it.pilot.resize_terminal(120, 30)
        await it.tell()
        assert log.scroll_y == 0, "the user reads older lines"

        await it.tell(ev.Warned(step=0, message="word " * 30))
        for width in (200, 120):
            await it.pilot.resize_terminal(width, 40)
            await it.press("5")
            assert max(strip.cell_length for strip in log.lines) <= log.scrollable_content_region.width
            assert "".join(strip.text for strip in log.lines).count("word") == 30


async def test_steps_that_the_user_asked_for_are_one_line_whatever_was_logged_before_and_in_between() -> None:
    async with lab(size=(200, 50)) as it:
        await it.tell(ev.Paused(step=27))
        for step in range(28, 31):
            await it.tell(ev.Resumed(step=step - 1), update(step), ev.Paused(step=step))
        words = it.text("#log").split()
        assert words.count("paused") == 1 and "30:" in words and "resumed" not in words, "single steps in a row"
        for n_paused, (first, last, text) in enumerate(((30, 31, "after one step"), (31, 41, "after 10 steps")), 2):
            await it.tell(ev.Saved(step=first, path=f"checkpoints/{first}"), ev.Resumed(step=first))
            await it.tell(update(last), evaluated(last), ev.Paused(step=last))
            log = it.text("#log")
            assert f"paused {text}" in log and "resumed" not in log and log.count("paused") == n_paused, text
        await it.tell(ev.Resumed(step=41), update(90), ev.Paused(step=90))
        assert it.text("#log").count("resumed") == 1, "that was not for some steps"


async def test_replayed_events_have_the_recorded_time_if_any_and_those_that_happen_now_have_one() -> None:
    change = ev.Changed(step=30, key="optim.lr", old=0.1, new=0.2)
    async with lab(size=(200, 50)) as it:
        await it.tell(change)
        lines = [line for line in it.text("#log").splitlines() if line]
        assert ":" in lines[-1].split()[0] and lines[-1].split()[1] == "step"
        it.source.playback = FakePlayback(position=30)
        await it.tell(Rewound(ready(), (started(ready()), change)), update(31))
        await it.tell(ev.Saved(step=31, path="checkpoints/step-31"))
        lines = [line for line in it.text("#log").splitlines() if line]
        assert [line.startswith("step ") for line in lines[-2:]] == [True, True]
        assert ":" not in lines[0].split()[0], "nor the line of the start"
        noon = datetime.now().replace(hour=12, minute=34, second=56)
        earlier = noon.replace(year=2025, month=1, day=2)
        times = (noon.timestamp(), earlier.timestamp())
        await it.tell(Rewound(ready(), tuple(replace(change, time=time) for time in times)), update(31))
        lines = [line for line in it.text("#log").splitlines() if line]
        assert [line.partition(" step")[0] for line in lines] == ["12:34:56", "Jan 02 12:34"]
        assert it.screen.events_pane.summary(it.screen.state).startswith("step 30")


def test_run_that_was_killed_is_said_to_have_lost_steps() -> None:
    start = started(ready())
    again = replace(start, step=4, resumed=True)
    past = (start, ev.Saved(step=4, path="c"), ev.Stopped(step=4, reason="stopped"), again, again)
    pane = EventsPane("events")
    pane.note(replace(ready(), past=past, in_progress=True))
    assert ["not saved" in line for line in pane.copied().splitlines()] == [False, False, False, False, True]


async def test_opening_a_run_logs_the_end_of_its_past_without_times() -> None:
    saves = tuple(ev.Saved(step=step, path=f"checkpoints/step-{step}") for step in range(1, 400))
    past = (
        *saves,
        ev.Changed(step=400, key="optim.lr", old=0.1, new=0.2),
        evaluated(400),
        ev.Paused(step=400),
        ev.Resumed(step=400),
        update(401),
        ev.Paused(step=401),
    )
    async with lab(size=(200, 50), loaded=False, steps=0) as it:
        await it.tell(replace(ready(), past=past, in_progress=True), ev.Resumed(step=401))
        lines = it.screen.events_pane.copied().splitlines()
        tail = lines[-4:]
        assert "optim.lr" in tail[0] and "val" in tail[1] and tail[2].startswith("step 401: paused")
        assert ":" in tail[3].split()[0] and tail[3].endswith("step 401: resumed"), "it happens now"
        assert lines[0].startswith("step 1") and 290 < len(lines) < 310, "not all of a long past"


async def test_validation_loss_that_a_script_prints_is_shown_once() -> None:
    def shown(step: int, loss: float) -> ev.Evaluated:
        return replace(evaluated(step), val_loss=loss)

    async with lab(size=(200, 50)) as it:
        pane = it.screen.query_one(EventsPane)
        pane.note(replace(ready(), config=ScriptConfig()))
        pane.note(shown(31, 0.33661))
        pane.note(Printed(("step 31: val loss 0.3366",)))
        pane.note(Printed(("step 41: val loss 0.2222",)))
        pane.note(shown(41, 0.22222))
        pane.note(shown(51, 0.11111))
        pane.note(ev.Saved(step=51, path="checkpoints/step-51"))
        lines = pane.copied().splitlines()
        assert sum("0.3366" in line for line in lines) == sum("0.2222" in line for line in lines) == 1
        assert "step 51: validation loss" in lines[-2], "the script prints nothing"
        pane.note(shown(61, 0.5551), is_replayed=True)
        pane.note(Printed(("step 61: val loss 0.5551",)))
        assert sum("0.5551" in line for line in pane.copied().splitlines()) == 1

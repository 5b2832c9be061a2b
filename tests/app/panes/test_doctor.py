"""The doctor pane: findings and their fixes, crashed checks, and the sources of randomness."""

from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from textual.widgets import OptionList

from tests.app.contrast import contrast
from tests.app.fake import Lab, lab, ready, started, update
from tui_lab.app.app import LabApp
from tui_lab.app.panes.doctor import health_text
from tui_lab.app.screens.explain import Explain
from tui_lab.app.session.doctor_thread import DoctorThread
from tui_lab.app.session.messages import CheckStarted, Diagnosed, DiagnosisFailed, DoctorMessage
from tui_lab.app.themes import THEMES
from tui_lab.core import commands as cmd
from tui_lab.core import events as ev
from tui_lab.core.config import settings
from tui_lab.core.doctor.findings import Crashed, Finding, Report, Unchecked
from tui_lab.core.doctor.fixes import unfixed

SHUFFLED = Finding(
    code="shuffle_every_step",
    title="The loader shuffles.",
    evidence="16 different",
    why="Why so.",
    fix="Shuffle once.",
    drawing=("batch 1  a b", "batch 2  c d"),
)
SOFTMAX_TWICE = Finding(
    code="double_softmax",
    title="Two softmaxes.",
    evidence="floor 9.825",
    why="No gradient.",
    fix="Pass logits.",
    reference_loss=1.461,
)
TOO_LOW = Finding(
    code="lr_too_low", title="Too low.", evidence="0.1", why="Why.", fix="Try 0.01.", proposal={"optim.lr": 0.01}
)
NO_SETTING_FIXES = Finding(
    code="cannot_overfit", title="It cannot.", evidence="0.1", why="Why.", fix="Look at the mask."
)


def report(*findings: Finding, crashed: tuple[Crashed, ...] = ()) -> Report:
    return Report(
        findings=findings,
        not_judged=(Unchecked("overfit", "later"),),
        passed=("ids", "loss"),
        seconds={"ids": 0.1},
        crashed=crashed,
    )


@pytest.fixture
def diagnosed(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The configs that are to be diagnosed; no thread is started."""
    configs: list[Any] = []
    monkeypatch.setattr(DoctorThread, "start", lambda self, config: configs.append(config))
    return configs


@pytest.fixture
def restarts(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The messages that ask for a restart; the app ignores them."""
    messages: list[Any] = []
    monkeypatch.setattr(LabApp, "on_lab_screen_restart", lambda app, message: messages.append(message))
    return messages


async def show(it: Lab, *messages: DoctorMessage) -> None:
    for message in messages:
        it.screen.doctor_pane.receive(message)
    await it.press("6")


async def test_findings_are_listed_with_the_evidence_of_the_selected_one(diagnosed: list[Any]) -> None:
    async with lab(size=(80, 24)) as it:
        await it.tell(ev.Changed(step=30, key="optim.lr", old=0.002, new=0.5))
        it.screen.config_pane.set_value("model.d_ff", 32)
        await it.press("K")
        edited = settings.changed(settings.changed(it.config, "optim.lr", 0.5), "model.d_ff", 32)
        assert diagnosed == [edited], "changes count even while the config pane is hidden"
        assert it.pilot.app.focused is not None and it.pilot.app.focused.id == "findings"

        await show(it, CheckStarted("sight"))
        assert "sight" in it.text("#health")
        await show(it, Diagnosed(it.config, report(SHUFFLED, SOFTMAX_TWICE)))
        assert "2 findings" in it.text("#health") and "1 ✗ The loader shuffles." in it.text("#findings")
        assert "batch 2  c d" in it.text("#evidence") and "Why so" not in it.text("#evidence")
        await it.press("down")
        assert "floor 9.825" in it.text("#evidence")
        await it.press("down")
        assert it.screen.query_one("#findings", OptionList).highlighted == 0
        await it.pilot.press("enter")
        assert isinstance(it.pilot.app.screen, Explain)
        await it.pilot.press("escape")
        assert it.screen.is_current


async def test_failures_crashes_and_what_was_not_examined_are_shown_with_their_reasons() -> None:
    waiting = Unchecked("overfit", "not run because of loader", waits_for="shuffle_every_step")
    lacking = Unchecked("validation leak", "the script evaluated nothing")
    crashed = (Crashed("sight", "ValueError", "no view"), Crashed("loss", "ValueError", "no view"))
    async with lab() as it:
        await show(it, Diagnosed(it.config, report(SHUFFLED, crashed=crashed)))
        assert "sight, loss: ValueError: no view" in " ".join(
            it.text("#evidence").split()
        ) and "16 different" in it.text("#evidence")
        await show(it, DiagnosisFailed("no such file"))
        assert "✗ no such file" in it.text("#health")
        await show(it, Diagnosed(it.config, replace(report(SHUFFLED), not_judged=(waiting, lacking))))
        assert "2 checks passed, 1 waits for the fix, 1 not judged" in " ".join(it.text("#health").split())
        assert "not examined validation leak: the script evaluated nothing" in " ".join(it.text("#evidence").split())
        assert "overfit" not in it.text("#evidence")


def test_health_text_never_calls_a_crashed_diagnosis_healthy() -> None:
    crashed = (Crashed("sight", "ValueError", "no view"),)
    healthy = health_text(report())
    assert health_text(report(crashed=crashed)).startswith("1 check crashed")
    assert not any(healthy.split(" (")[0] in health_text(each) for each in (report(crashed=crashed), report(SHUFFLED)))
    assert health_text(report(SHUFFLED, crashed=crashed)).startswith("1 check crashed; 1 finding")
    unseen = health_text(replace(report(), without_updates="it changes its weights by hand"))
    assert not unseen.startswith(healthy.split(" (")[0])


def _take_all(messages: list[DoctorMessage]) -> list[DoctorMessage]:
    return [messages.pop() for _ in messages[:]]


async def test_floor_of_a_double_softmax_is_drawn_until_it_is_fixed(monkeypatch: pytest.MonkeyPatch) -> None:
    async with lab() as it:
        for findings, step in (((SOFTMAX_TWICE,), 31), ((), 32)):
            messages: list[DoctorMessage] = [Diagnosed(it.config, report(*findings))]
            drain = partial(_take_all, messages)
            monkeypatch.setattr(it.screen.doctor, "drain", drain)
            await it.tell()
            await it.tell(update(step))
            assert ("floor 1.461" in it.text("#chart")) == bool(findings)


async def test_planted_faults_are_named_once_the_doctor_has_looked_and_a_fix_restarts_without_one(
    restarts: list[Any], diagnosed: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with lab("overfit-one", 'faults=["double_softmax", "shuffle_every_step"]', "data.vocab=seen") as it:
        assert it.text("#banner").strip() == "2 planted mistakes · K diagnoses"
        assert "double_softmax" not in it.text("#log")
        messages: list[DoctorMessage] = [Diagnosed(it.config, report(SOFTMAX_TWICE))]
        monkeypatch.setattr(it.screen.doctor, "drain", partial(_take_all, messages))
        await it.tell()
        assert "double_softmax, shuffle_every_step" in it.text("#banner")

        await show(it, Diagnosed(it.config, report(SHUFFLED, SOFTMAX_TWICE)))
        border = str(it.screen.doctor_pane.border_subtitle)
        assert "a fix and restart" in border and "Enter why" in border
        await it.pilot.press("a")
        [message] = restarts
        assert message.config.faults == ("double_softmax",) and message.diagnose and not message.fork
        assert message.unfixed == [SOFTMAX_TWICE]
        assert "overfit-one-1" in message.origin and "faults double_softmax, shuffle_every_step →" in message.origin
    async with lab(steps=0) as it:
        it.screen.origin = message.origin
        await it.tell(ready(), ev.Paused(step=0))
        assert "overfit-one-1" in it.text("#log")
        assert any("overfit-one-1" in notice.message for notice in it.pilot.app._notifications)
        it.screen.diagnose_first = True
        await it.tell(ready(), started(ready()))
        assert diagnosed == [ready().config], "a run with a fix is diagnosed when it opens"


async def test_finding_that_is_not_fixed_yet_stays_listed_until_the_next_diagnosis() -> None:
    async with lab("overfit-one", 'faults=["double_softmax"]', "data.vocab=seen", steps=0) as it:
        it.screen.doctor_pane.keep([SOFTMAX_TWICE])
        await show(it, CheckStarted("sight"))
        assert "1 ✗ not fixed yet: Two softmaxes." in " ".join(it.text("#findings").split()) and "sight" in it.text(
            "#health"
        )
        await show(it, Diagnosed(it.config, report(SOFTMAX_TWICE)))
        assert "1 ✗ Two softmaxes." in it.text("#findings")


def test_fix_leaves_the_other_findings_unfixed() -> None:
    old = settings.load("reverse", ["optim.lr=1e-5"])
    new = settings.changed(old, "optim.lr", 0.01)
    assert unfixed([TOO_LOW, NO_SETTING_FIXES], old, new) == [NO_SETTING_FIXES]
    assert unfixed([TOO_LOW], old, settings.changed(old, "train.batch_size", 8)) == [TOO_LOW]


async def test_healthy_run_is_readable_in_every_theme() -> None:
    async with lab() as it:
        await show(it, Diagnosed(it.config, report()))
        for theme in THEMES:
            it.pilot.app.theme = theme.name
            await it.tell()
            [segment, *_] = it.screen.query_one("#health").render_line(0)
            assert segment.style is not None and segment.style.color is not None and theme.background is not None
            color = segment.style.color.get_truecolor(it.pilot.app.ansi_theme)
            assert contrast(color.hex, theme.background) >= (7.0 if theme.name == "high-contrast" else 4.5)


async def test_fix_by_a_live_setting_restarts_nothing(restarts: list[Any], diagnosed: list[Any]) -> None:
    async with lab() as it:
        assert not it.screen.query_one("#banner").display
        await show(it, Diagnosed(it.config, report(TOO_LOW)))
        assert "a fix now" in str(it.screen.doctor_pane.border_subtitle)
        await it.press("a")
        assert "optim.lr 0.002 → 0.01" in [notice.message for notice in it.pilot.app._notifications][-1]
        assert restarts == [] and it.source.sent == [cmd.Set("optim.lr", 0.01)] and len(diagnosed) == 1

        await show(it, Diagnosed(it.config, report(NO_SETTING_FIXES)))
        await it.press("a")
        assert restarts == [] and len(it.source.sent) == 1
        assert "Look at the mask." in [notice.message for notice in it.pilot.app._notifications][-1]


async def test_keys_pressed_while_the_run_loads_are_carried_out_once_it_is_open(diagnosed: list[Any]) -> None:
    async with lab(steps=0, loaded=False) as it:
        await it.press("g", "K", "K")
        notices = [notice.message for notice in it.pilot.app._notifications]
        assert diagnosed == [] and all("as soon as it is open" in notice for notice in notices) and len(notices) == 3
        await it.press("r")
        assert "still loading" in [notice.message for notice in it.pilot.app._notifications][-1]
        await it.tell(ready(), started(ready()))
        assert diagnosed == [it.config] and it.screen.generation_pane.replies
        assert it.pilot.app.focused is not None and it.pilot.app.focused.id == "findings"


async def test_findings_of_the_monitors_have_their_step_and_when_they_no_longer_held() -> None:
    async with lab() as it:
        await it.tell(*(update(step, update_ratio=0.5) for step in range(31, 90)))
        await it.press("6")
        assert "! step 53: " in it.text("#findings")
        assert "a fix" in str(it.screen.doctor_pane.border_subtitle)
        await it.tell(*(update(step, update_ratio=0.01) for step in range(90, 95)))
        assert "past, step 53 to 92: " in it.text("#findings")
        assert "a fix" not in str(it.screen.doctor_pane.border_subtitle)


async def test_sources_of_randomness_are_listed_and_pinned(restarts: list[Any]) -> None:
    async with lab("reverse", "train.threads=0") as it:
        await it.pilot.press("6")
        it.source.looks.clear()
        await it.pilot.press("n")
        it.source.looks[0].look(None)  # type: ignore[arg-type]
        await it.tell()
        assert "FREE   threads" in it.text("#evidence") and "pinned " in it.text("#evidence")
        await it.pilot.press("p")
        [message] = restarts
        assert message.config.train.threads >= 1
        await it.press("n")
        assert "threads" not in it.text("#evidence")

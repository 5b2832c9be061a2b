"""The doctor pane: asked by a key, told by messages, mended by a key."""

import threading
from typing import Any

import pytest
from textual.widgets import OptionList

from tests.app.fake import Lab, lab, ready, started, update
from tui_lab.app.app import LabApp
from tui_lab.app.screens.explain import Explain
from tui_lab.app.session.doctor_thread import DoctorThread
from tui_lab.app.session.messages import CheckStarted, Diagnosed, DiagnosisFailed, DoctorMessage
from tui_lab.core import commands as cmd
from tui_lab.core import events as ev
from tui_lab.core.config import settings
from tui_lab.core.doctor.findings import Crashed, Finding, Report, Skipped
from tui_lab.util.errors import ConfigError

SHUFFLED = Finding(
    code="shuffle_every_step",
    title="The loader shuffles.",
    evidence="16 different",
    why="Why so.",
    fix="Shuffle once.",
    drawing=("step 0  a b", "step 1  c d"),
)
SOFTENED = Finding(
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
UNMENDABLE = Finding(code="cannot_overfit", title="It cannot.", evidence="0.1", why="Why.", fix="Look at the mask.")


def report(*findings: Finding) -> Report:
    return Report(findings, (Skipped("overfit", "later"),), ("ids", "loss"), {"ids": 0.1})


async def examined(it: Lab, *findings: Finding) -> None:
    it.screen.doctor_pane.hear(Diagnosed(it.config, report(*findings)))
    await it.press("6")


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (200, 50)])
async def test_the_key_asks_for_the_edited_config_and_goes_to_the_pane(
    size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(DoctorThread, "start", lambda self, config: asked.append(config))
    async with lab(size=size) as it:
        it.screen.config_pane.choose("model.d_ff", 32)
        await it.press("k")
        assert [config.model.d_ff for config in asked] == [32]
        assert it.pilot.app.focused is not None and it.pilot.app.focused.id == "findings"
        it.screen.doctor_pane.hear(CheckStarted("sight"))
        await it.tell()
        assert "checking: sight" in it.text("#health")


async def test_findings_are_listed_with_the_evidence_of_the_chosen_one() -> None:
    async with lab(size=(80, 24)) as it:
        await examined(it, SHUFFLED, SOFTENED)
        assert "2 findings (2 checks passed, 1 skipped)" in it.text("#health")
        assert "1 ✗ The loader shuffles." in it.text("#findings")
        assert "step 1  c d" in it.text("#evidence") and "Why so" not in it.text("#evidence")
        await it.press("down")
        assert "floor 9.825" in it.text("#evidence")
        await it.press("enter")
        assert isinstance(it.pilot.app.screen, Explain)
        await it.pilot.press("escape")
        assert it.screen.is_current


async def test_the_floor_of_a_double_softmax_is_drawn_against_the_curve() -> None:
    async with lab() as it:
        for findings, shown in (((SOFTENED,), True), ((), False)):
            told: list[DoctorMessage] = [Diagnosed(it.config, report(*findings))]
            it.screen.doctor.drain = lambda told=told: [told.pop() for _ in told[:]]  # type: ignore[method-assign, misc]
            await it.tell()
            await it.tell(update(31 + shown))
            assert ("floor 1.461" in it.text("#readout")) == shown


async def test_nothing_found_is_said() -> None:
    async with lab() as it:
        await examined(it)
        assert "No problems found (2 checks passed" in it.text("#health")
        it.screen.doctor_pane.hear(DiagnosisFailed("no such file"))
        await it.tell()
        assert "✗ no such file" in it.text("#health")


@pytest.mark.parametrize("findings", [(), (SHUFFLED,)])
async def test_a_check_that_crashed_is_shown_with_its_error(findings: tuple[Finding, ...]) -> None:
    crashed = (Crashed("sight", "ValueError", "no view"), Crashed("loss", "ValueError", "no view"))
    async with lab() as it:
        it.screen.doctor_pane.hear(Diagnosed(it.config, Report(findings, (), ("ids",), {}, crashed)))
        await it.press("6")
        assert it.text("#health").strip().startswith("2 checks crashed")
        assert "No problems" not in it.text("#health")
        assert "sight, loss: ValueError: no view" in it.text("#evidence")


async def again(it: Lab, monkeypatch: pytest.MonkeyPatch, *keys: str) -> list[Any]:
    asked: list[Any] = []
    monkeypatch.setattr(LabApp, "on_lab_screen_restart", lambda app, message: asked.append(message))
    await it.press(*keys)
    return asked


async def test_a_begins_anew_without_the_mistake_and_looks_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async with lab("overfit-one", 'faults=["double_softmax", "shuffle_every_step"]', "data.vocab=seen") as it:
        await examined(it, SHUFFLED, SOFTENED)
        [message] = await again(it, monkeypatch, "a")
        assert message.config.faults == ("double_softmax",) and message.diagnose and not message.fork


async def test_a_live_fix_is_sent_to_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DoctorThread, "start", lambda self, config: None)
    async with lab() as it:
        await examined(it, TOO_LOW)
        assert await again(it, monkeypatch, "a") == []
        assert it.source.sent == [cmd.Set("optim.lr", 0.01)]


async def test_what_no_setting_mends_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    async with lab() as it:
        await examined(it, UNMENDABLE)
        assert await again(it, monkeypatch, "a") == [] and it.source.sent == []
        assert "Look at the mask." in [n.message for n in it.pilot.app._notifications][-1]


async def test_a_banner_marks_mistakes_made_on_purpose() -> None:
    async with lab("reverse", 'faults=["no_mask"]', size=(80, 24)) as it:
        assert "planted fault: no_mask" in it.text("#banner")
    async with lab(size=(80, 24)) as it:
        assert not it.screen.query_one("#banner").display


async def test_a_mended_run_is_examined_as_it_opens(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(DoctorThread, "start", lambda self, config: asked.append(config))
    async with lab(steps=0) as it:
        it.screen._diagnose_first = True
        opened = ready()
        await it.tell(opened, started(opened))
        assert asked == [opened.config]


async def test_what_the_watchers_notice_is_listed_with_its_step() -> None:
    async with lab() as it:
        await it.tell(*(update(step, update_ratio=0.5) for step in range(31, 90)))
        await it.press("6")
        assert "! step 53: " in it.text("#findings")


async def test_the_ledger_of_randomness_and_the_key_that_pins(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[cmd.Inspect] = []
    async with lab("reverse", "train.threads=0") as it:
        it.screen.doctor_pane._send = lambda command: looks.append(command)  # type: ignore[arg-type]
        await it.press("6", "j")
        looks[0].look(None)  # type: ignore[arg-type]
        await it.tell()
        shown = it.text("#evidence")
        assert "FREE   threads" in shown and "pinned initialization" in shown
        [message] = await again(it, monkeypatch, "p")
        assert message.config.train.threads >= 1
        await it.press("j")
        assert "threads" not in it.text("#evidence")


async def test_a_config_taken_over_while_its_pane_is_hidden() -> None:
    async with lab(size=(80, 24)) as it:
        await it.tell(ev.Changed(step=30, key="optim.lr", old=0.002, new=0.5))
        assert it.screen.config_pane.edited == settings.changed(it.config, "optim.lr", 0.5)


def test_an_examination_tells_what_it_is_at_and_ends_in_words() -> None:
    def good(config: Any, tell: Any) -> Report:
        tell("ids")
        return report(SOFTENED)

    def bad(config: Any, tell: Any) -> Report:
        raise ConfigError(["no good"])

    def broken(config: Any, tell: Any) -> Report:
        raise ZeroDivisionError

    config = settings.load("reverse")
    for examine, last in ((good, Diagnosed), (bad, DiagnosisFailed), (broken, DiagnosisFailed)):
        doctor = DoctorThread(examine)
        doctor.start(config)
        assert doctor._thread is not None
        doctor._thread.join()
        told = doctor.drain()
        assert isinstance(told[-1], last) and not doctor.busy


def test_an_examination_that_is_stopped_ends_where_it_tells() -> None:
    begun = threading.Event()

    def endless(config: Any, tell: Any) -> Report:
        while True:
            tell("sight")
            begun.set()

    doctor = DoctorThread(endless)
    doctor.start(settings.load("reverse"))
    begun.wait()
    doctor.stop()
    assert not doctor.busy and [type(told) for told in doctor.drain()] == [CheckStarted]


async def test_enter_and_arrows_stay_with_the_list() -> None:
    async with lab(size=(200, 50)) as it:
        await examined(it, SHUFFLED, SOFTENED)
        await it.press("down", "down")
        assert it.screen.query_one("#findings", OptionList).highlighted == 0

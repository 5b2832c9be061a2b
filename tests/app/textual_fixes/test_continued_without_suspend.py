"""SIGCONT takes the terminal again, also if no Ctrl-Z left it."""

import asyncio
import signal
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from textual.drivers.linux_driver import LinuxDriver

from tui_lab.app.textual_fixes.continued_without_suspend import take_terminal_when_continued


class CountingDriver(LinuxDriver):
    """Textual's driver without a terminal; notes when it leaves and takes it."""

    def __init__(self) -> None:
        self._auto_restart = True
        self._must_signal_resume = False
        self.calls: list[str] = []

    def suspend_application_mode(self) -> None:
        self.calls.append("suspend")

    def resume_application_mode(self) -> None:
        self.calls.append("resume")


@pytest.fixture(autouse=True)
def handler() -> Iterator[None]:
    before = signal.getsignal(signal.SIGCONT)
    yield
    signal.signal(signal.SIGCONT, before)


@pytest.mark.xfail(strict=True, reason="a defect of Textual: it takes what it has not left")
def test_textual_leaves_the_terminal_before_it_takes_it_again() -> None:
    driver = CountingDriver()
    signal.signal(signal.SIGCONT, driver._sigcont_application)
    signal.raise_signal(signal.SIGCONT)
    assert driver.calls == ["suspend", "resume"]


@pytest.mark.parametrize(
    ("suspended", "running", "calls"),
    [(False, True, ["suspend", "resume"]), (True, True, ["resume"]), (False, False, [])],
)
async def test_terminal_is_left_before_it_is_taken_again(suspended: bool, running: bool, calls: list[str]) -> None:
    driver = CountingDriver()
    driver._must_signal_resume = suspended
    app: Any = SimpleNamespace(_driver=driver, is_running=running)
    take_terminal_when_continued(app)
    signal.raise_signal(signal.SIGCONT)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert driver.calls == calls


def test_driver_without_suspend_is_left_alone() -> None:
    before = signal.getsignal(signal.SIGCONT)
    app: Any = SimpleNamespace(_driver=object())
    take_terminal_when_continued(app)
    assert signal.getsignal(signal.SIGCONT) == before

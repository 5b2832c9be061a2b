"""SIGCONT resumes the terminal only if Ctrl-Z suspended it."""

import signal
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from textual.drivers.linux_driver import LinuxDriver

from tui_lab.app.textual_fixes.continued_without_suspend import resume_only_if_suspended


class CountingDriver(LinuxDriver):
    """Textual's driver without a terminal; counts how often it was resumed."""

    def __init__(self) -> None:
        self._auto_restart = True
        self._must_signal_resume = False
        self.resumed = 0

    def resume_application_mode(self) -> None:
        self.resumed += 1


@pytest.fixture(autouse=True)
def handler() -> Iterator[None]:
    before = signal.getsignal(signal.SIGCONT)
    yield
    signal.signal(signal.SIGCONT, before)


@pytest.mark.xfail(strict=True, reason="a defect of Textual: it resumes what was not suspended")
def test_textual_resumes_only_if_suspended() -> None:
    driver = CountingDriver()
    signal.signal(signal.SIGCONT, driver._sigcont_application)
    signal.raise_signal(signal.SIGCONT)
    assert driver.resumed == 0


@pytest.mark.parametrize(("suspended", "resumed"), [(False, 0), (True, 1)])
def test_resume_only_if_suspended(suspended: bool, resumed: int) -> None:
    driver = CountingDriver()
    driver._must_signal_resume = suspended
    app: Any = SimpleNamespace(_driver=driver)
    resume_only_if_suspended(app)
    signal.raise_signal(signal.SIGCONT)
    assert driver.resumed == resumed


def test_driver_without_suspend_is_left_alone() -> None:
    before = signal.getsignal(signal.SIGCONT)
    app: Any = SimpleNamespace(_driver=object())
    resume_only_if_suspended(app)
    assert signal.getsignal(signal.SIGCONT) == before

"""The thread that runs the doctor."""

import threading
from typing import Any

import pytest

from tui_lab.app.session.doctor_thread import DoctorThread
from tui_lab.app.session.messages import CheckStarted, Diagnosed, DiagnosisFailed
from tui_lab.core.config import settings
from tui_lab.core.doctor.findings import Report
from tui_lab.util.errors import ConfigError

HEALTHY = Report(passed=("ids",))


@pytest.mark.parametrize(
    ("error", "last"),
    [(None, Diagnosed), (ConfigError(["bad"]), DiagnosisFailed), (ZeroDivisionError(), DiagnosisFailed)],
)
def test_diagnosis_ends_with_a_message(error: Exception | None, last: type) -> None:
    def examine(config: Any, report_check: Any) -> Report:
        report_check("ids")
        if error is not None:
            raise error
        return HEALTHY

    doctor = DoctorThread(examine)
    doctor.start(settings.load("reverse"))
    while doctor.busy:
        threading.Event().wait(0.001)
    messages = doctor.drain()
    assert messages[0] == CheckStarted("ids") and isinstance(messages[-1], last)


def test_stop_ends_a_diagnosis_at_its_next_check() -> None:
    begun = threading.Event()

    def examine(config: Any, report_check: Any) -> Report:
        while True:
            report_check("sight")
            begun.set()

    doctor = DoctorThread(examine)
    doctor.start(settings.load("reverse"))
    begun.wait()
    doctor.stop()
    assert not doctor.busy and doctor.drain() == [CheckStarted("sight")]

"""Why a script made no update has the same words for every command that tries it."""

import signal
from dataclasses import replace
from pathlib import Path

import pytest

from tui_lab.core.watch.process.script_end import ARGPARSE_ERROR, NOT_SEEN, ended_record, why_no_update
from tui_lab.core.watch.process.script_process import Target

TARGET = Target("train.py", ("--steps", "3"))
SILENT = ended_record(None, "train.py")


def record_of(error: BaseException) -> dict[str, object]:
    try:
        raise error
    except type(error):
        return ended_record(error, "train.py")


def test_error_is_named_with_its_line_whatever_the_exit_code() -> None:
    why = why_no_update(TARGET, "doctor", 1, record_of(ValueError("no data")))
    assert Path(__file__).name in why and "ValueError: no data" in why
    assert why == why_no_update(TARGET, "lr-find", 0, record_of(ValueError("no data")))


@pytest.mark.parametrize("command", ["doctor", "lr-find"])
def test_arguments_that_are_refused_and_a_missing_gpu_are_answered_with_the_same_command(command: str) -> None:
    without = replace(TARGET, arguments=())
    refused = why_no_update(without, command, ARGPARSE_ERROR, SILENT)
    assert refused.endswith(without.arguments_hint(command))
    assert TARGET.arguments_hint(command) not in why_no_update(TARGET, command, ARGPARSE_ERROR, SILENT)
    lacking = {**record_of(RuntimeError("Found no NVIDIA driver")), "file": "none.py"}
    assert lacking["lacks"] == "gpu" and "no GPU here" in why_no_update(TARGET, command, 1, lacking)


def test_endings_differ_by_code_and_signal() -> None:
    assert "exit code 7" in why_no_update(TARGET, "doctor", 7, SILENT)
    assert why_no_update(TARGET, "doctor", 7, None) == why_no_update(TARGET, "doctor", 7, SILENT)
    assert "SIGKILL" in why_no_update(TARGET, "doctor", -signal.SIGKILL, None)
    silent = why_no_update(TARGET, "doctor", 0, SILENT)
    assert "exit code" not in silent and NOT_SEEN in silent

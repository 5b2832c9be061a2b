"""Events as lines of text."""

from dataclasses import replace

import pytest

from tests.core.recorded import SCRIPT_STARTED, STARTED
from tui_lab.core import events as ev
from tui_lab.runs.event_text import event_text, failure_text


def test_start_of_a_script_leaves_out_what_is_not_known() -> None:
    ours, of_script = event_text(STARTED), event_text(replace(SCRIPT_STARTED, n_vocab=0))
    assert ours is not None and of_script is not None
    assert "vocabulary" in ours and "examples" in ours
    assert "vocabulary" not in of_script and "examples" not in of_script and "4,321" in of_script


@pytest.mark.parametrize("kind", [ev.Paused, ev.Resumed])
def test_events_of_no_interest_have_no_line(kind: type[ev.Paused | ev.Resumed]) -> None:
    assert event_text(kind(step=1)) is None


def test_logged_values_and_texts_are_one_line() -> None:
    text = event_text(ev.Logged(step=1000, values={"accuracy": 0.25}, texts={"sample": "to be\n\tor not" + " x" * 999}))
    assert text is not None
    assert "1,000" in text and "accuracy 0.25" in text and "to be or not" in text
    assert "\n" not in text and len(text) < 400


def test_failure_has_its_traceback_in_further_lines() -> None:
    failed = ev.Failed(step=2, message="ValueError: no data", details="Traceback:\n  line 9\n")
    assert failure_text(failed).splitlines()[1:] == ["Traceback:", "  line 9"]
    assert failure_text(ev.Failed(step=2, message="not finite")).count("\n") == 0

"""Events as lines of text."""

from dataclasses import replace

import pytest

from tests.core.recorded import SCRIPT_STARTED, STARTED, evaluated, update
from tui_lab.core import events as ev
from tui_lab.runs.event_text import event_text, failure_text, is_event_line, step_text


def test_start_of_a_script_leaves_out_what_is_not_known() -> None:
    ours, of_script = event_text(STARTED), event_text(replace(SCRIPT_STARTED, n_vocab=0))
    assert ours is not None and of_script is not None
    assert "vocabulary" in ours and "examples" in ours
    assert "vocabulary" not in of_script and "examples" not in of_script and "4,321" in of_script


@pytest.mark.parametrize(
    "event",
    [
        replace(STARTED, parameters=1_234_567, resumed=True),
        evaluated(2500, 0.25),
        ev.Changed(step=2500, key="optim.lr", old=0.1, new=1e-05),
        ev.Changed(step=1, key="data.shuffle", old="epoch", new="off"),
        ev.Warned(step=3, message="the loss is not finite"),
    ],
)
def test_printed_line_of_an_event_is_told_from_other_output(event: ev.Event) -> None:
    text = event_text(event)
    assert text is not None and is_event_line(text)
    assert not is_event_line(f"my model: {text}")


def test_printed_line_of_a_step_is_told_from_what_user_code_prints() -> None:
    assert is_event_line(step_text(update(2500)))
    assert not any(map(is_event_line, ["step 3: my loss 0.1", "step 3", "1,234 parameters", ""]))


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

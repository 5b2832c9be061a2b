"""Time and tokens at each step, also where steps were left out."""

from tests.app.fake import update
from tui_lab.app.session.progress import Progress


def test_places_of_steps_on_each_axis() -> None:
    progress = Progress()
    for step in range(1, 5):
        progress.add(update(step, seconds=2.0, tokens=100 * step))
    assert progress.at("step", 2.5) == 2.5
    assert progress.at("time", 2.5) == 5.0 and progress.at("tokens", 2.5) == 250.0
    assert progress.at("time", 99) == 8.0


def test_time_of_steps_that_were_left_out_is_estimated() -> None:
    progress = Progress()
    for step in (1, 2, 1001):
        progress.add(update(step, seconds=0.5))
    assert progress.at("time", 1001) == 0.5 * 1001


def test_run_that_was_opened_late_counts_its_earlier_steps_as_no_time() -> None:
    progress = Progress()
    progress.add(update(500, seconds=0.5))
    assert progress.at("time", 500) == 0.5 and Progress().at("tokens", 3) == 0.0

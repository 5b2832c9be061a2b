"""How the app shows ages and the process that trains a run."""

import pytest

from tui_lab.app.labels import ago, holder_text
from tui_lab.core.runs.lock import UNKNOWN, Holder


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-5, "now"), (59, "now"), (60, "1 min ago"), (7200, "2 h ago"), (86400, "1 day ago"), (5 * 86400, "5 days ago")],
)
def test_age_has_one_unit(seconds: float, text: str) -> None:
    assert ago(1e9, 1e9 + seconds) == text


def test_age_of_more_than_a_week_is_a_date() -> None:
    assert ago(1e9, 1e9 + 8 * 86400).startswith("2001-09-")


@pytest.mark.parametrize(
    ("holder", "text"),
    [
        (Holder(857, "vm", "2001-09-09T01:44:40+0000", "tui-lab run x"), "process 857 (started 2 min ago)"),
        (Holder(857, "vm", "2001-09-09T01:46:40+0000", "tui-lab run x"), "process 857 (started just now)"),
        (Holder(857, "vm", "yesterday", "tui-lab run x"), "process 857"),
        (UNKNOWN, "an unknown process"),
    ],
)
def test_process_is_shown_with_its_age(holder: Holder, text: str) -> None:
    assert holder_text(holder, 1e9) == text

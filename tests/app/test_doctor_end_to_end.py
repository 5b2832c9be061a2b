"""The confusion-3 preset in the real app: a key fixes both planted faults, one by one."""

from pathlib import Path

import pytest

from tests.app.test_end_to_end import Person
from tui_lab.core.runs import folder as runs


@pytest.mark.slow
def test_both_faults_are_found_and_fixed_by_key_and_the_loss_then_falls(tmp_path: Path) -> None:
    person = Person(tmp_path, "app", "confusion-3")
    person.wait_for("planted fault: double_softmax, shuffle_every_step")
    person.wait_for("▶ running")
    person.press("K")
    person.wait_for("2 findings (")
    person.wait_for("The loader reshuffles every step")
    person.press("a")
    person.wait_until(lambda screen: "planted fault: double_softmax   (k" in screen and "1 finding (" in screen)
    person.press("a")
    person.wait_until(lambda screen: "planted fault" not in screen and "No problems found" in screen)
    person.wait_for("■ done")
    person.press("q")
    assert person.leave() == 0

    folders = sorted((tmp_path / "runs").iterdir(), key=lambda path: path.stat().st_mtime_ns)
    summaries = [summary for path in folders if (summary := runs.Run(path).summary()) is not None]
    assert [summary.faults for summary in summaries][-1] == ()
    assert (summaries[0].train_loss or 0) > 9.8, "it could not learn"
    assert (summaries[-1].train_loss or 1) < 0.02, "and then it does"

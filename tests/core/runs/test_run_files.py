"""What a run folder contains: one list says what is no link and what may be deleted."""

from pathlib import Path

import pytest

from tests.core.tiny import tiny
from tui_lab.core.runs import open_run, run_files
from tui_lab.util.errors import RunError


@pytest.mark.parametrize("name", sorted(run_files.ALL))
def test_no_file_of_a_run_may_be_a_link(name: str, tmp_path: Path) -> None:
    (tmp_path / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RunError) as caught:
        run_files.refuse_links(tmp_path)
    assert caught.value.code == "invalid" and caught.value.problems[0].key == str(tmp_path / name)


def test_a_run_that_trains_makes_no_other_files(tmp_path: Path) -> None:
    opened = open_run.start("tiny", tiny(), tmp_path / "a")
    list(opened.run.record(opened.trainer.events()))
    names = {path.name for path in opened.run.path.iterdir()}
    opened.close()
    assert {run_files.CONFIG, run_files.LOCK, run_files.CHECKPOINTS} < names <= run_files.ALL

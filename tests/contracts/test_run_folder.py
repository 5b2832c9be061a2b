"""The stored run folder of version 1 is read, compared, explained and continued; a newer one is refused by name."""

import json
import shutil
from pathlib import Path

import pytest

from tests.command_line import RunCli
from tests.contracts.shapes import RUN
from tests.core.tiny import losses
from tui_lab.core.runs import catalog, format_version, open_run, run_files
from tui_lab.core.runs.folder import Run, find
from tui_lab.util.errors import RunError

OLD_RUN = Path(__file__).parents[1] / "core" / "runs" / "old_run"
"""Of before there was a version."""


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(Path(shutil.copytree(RUN, tmp_path / "runs" / "one")))


def set_version(run: Run, **versions: int) -> None:
    (run.path / run_files.FORMAT).write_text(json.dumps({"run_folder": 1, "events": 1} | versions), "utf-8")


def test_the_stored_run_has_the_present_version() -> None:
    """After a change of the format: raise the version, and store another run beside this one."""
    assert format_version.stored(RUN) == {"run_folder": 1, "events": 1}


def test_show_compare_and_explain_read_it(run: Run, run_cli: RunCli) -> None:
    shutil.copytree(run.path, run.path.with_name("two"))
    shown = json.loads(run_cli("runs", "show", "one", "--json").out)
    assert (shown["steps"], shown["reason"], shown["val_loss"]) == (40, "done", pytest.approx(1.580778439839681))
    assert run_cli("runs", "compare", "one", "two").code == 0
    explained = json.loads(run_cli("explain", "one", "--step", "30", "--json").out)
    assert explained["at"]["step"] == 30 and len(explained["at"]["rows"]) > 0


def test_it_is_continued_from_where_it_was(run: Run) -> None:
    assert len(losses(list(run.events()))) == 40
    opened = open_run.resume(str(run.path), steps=42)
    events = list(opened.run.record(opened.trainer.events()))
    opened.close()
    assert [event.step for event in events if event.kind == "step"] == [41, 42]


def test_a_run_of_before_the_versions_is_read_and_gets_ours_when_it_is_continued(tmp_path: Path) -> None:
    run = Run(Path(shutil.copytree(OLD_RUN, tmp_path / "old")))
    assert format_version.stored(run.path) == {"run_folder": 0, "events": 0}
    assert find(str(run.path)) == run and list(run.events())
    run.lock().release()
    assert format_version.stored(run.path) == {"run_folder": 1, "events": 1}


@pytest.mark.parametrize("what", ["run_folder", "events"])
def test_a_newer_one_is_refused_with_its_version(run: Run, run_cli: RunCli, what: str) -> None:
    set_version(run, **{what: 2})
    for read in (lambda: find("one"), run.config, run.lock, lambda: list(run.events())):
        with pytest.raises(RunError) as raised:
            read()
        assert raised.value.code == "unavailable" and raised.value.problems[0].value == 2
    for command in (["runs", "show", "one"], ["explain", "one", "--step", "30"], ["run", "--resume", "one"]):
        assert run_cli(*command).code == 2
    [row] = catalog.find_runs(run.path)
    assert row.state == "damaged" and "newer" in row.problem


@pytest.mark.parametrize("content", ["", "{", "[]", '{"run_folder": "1"}', '{"run_folder": true}'])
def test_a_damaged_version_counts_as_none(run: Run, content: str) -> None:
    (run.path / run_files.FORMAT).write_text(content, "utf-8")
    assert format_version.stored(run.path) == {"run_folder": 0, "events": 0}
    assert find(str(run.path)) == run

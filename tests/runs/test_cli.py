import csv
import json
import os
import re
from pathlib import Path

import pytest
from filelock import FileLock

from tests.core.recorded import STARTED, evaluated, recorded, story, update
from tests.core.tiny import tiny, trainer_and_run
from tests.inside import Told
from tui_lab.core import events as ev
from tui_lab.core.runs import folder as runs
from tui_lab.core.runs.catalog import write_notes
from tui_lab.core.runs.lock import LOCK
from tui_lab.core.runs.summary import summarize


@pytest.fixture
def three(tmp_path: Path) -> Path:
    """Three runs in the runs folder, one of them a trial of a sweep: the first the oldest, the last the best."""
    root = runs.runs_folder()
    for age, (name, lr, loss) in enumerate([("b", 0.02, 2.0), ("sweep/trials/000", 0.1, 3.0), ("a", 0.001, 1.0)]):
        events = [STARTED, update(1, loss), *list(story())[-2:]]
        path = recorded(root / name, events, config=tiny(f"optim.lr={lr}")).path
        os.utime(path / "config.toml", (age + 1, age + 1))
    return root


def trained(path: Path, *overrides: str) -> Path:
    """A run with weights."""
    training, run = trainer_and_run(path, *overrides)
    run.write_summary(summarize(run.record(training.events())).summary(str(path)))
    return path


def names(told: Told, *words: object) -> list[str]:
    return [row["name"] for row in json.loads(told("runs", "ls", *words, "--json").out)]


def test_runs_are_listed_sorted_and_filtered(told: Told, three: Path) -> None:
    assert names(told) == ["b", "sweep/trials/000", "a"]
    assert names(told, "--sort", "train_loss") == ["a", "b", "sweep/trials/000"]
    assert names(told, "--sort", "-optim.lr") == ["sweep/trials/000", "b", "a"]
    assert names(told, "--where", "optim.lr<0.05", "--where", "train_loss>1") == ["b"]
    assert names(told, three / "sweep", "--where", "trials") == ["trials/000"]
    table = told("runs", "ls").out
    assert [line.split()[0] for line in table.splitlines()] == ["run", "b", "sweep/trials/000", "a"]
    assert told("runs", "ls", "--where", "optim.lr>1").out == f"none of 3 runs in {three}\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("ls", "--where", "lr<1"), "lr: unknown key; did you mean optim.lr?"),
        (("ls", "--sort", "los"), "los: unknown key"),
        (("ls", "nowhere"), "nowhere: no such folder"),
        (("show", "c"), "'c': not a run"),
        (("compare", "a"), "two runs or more are allowed, here is 1"),
        (("export", "a", "--to", "a.xls"), "allowed endings are .csv, .json, .tfevents, .svg, .png, .html"),
        (("export", "a", "b", "--to", "x.tfevents"), "one run is allowed here, and 2 were named"),
        (("export", "a", "b", "--to", "x.html"), "one run is allowed here, and 2 were named"),
        (("tag", "a", "two words"), "allowed are 1 to 40 characters"),
        (("tag", "a", "--drop", "good"), "the run's tags are none"),
        (("rm", "a"), "it asks first, and there is no terminal here; --yes removes without asking"),
        (("rm", "c", "--yes"), "'c': not a run"),
    ],
)
def test_bad_usage_says_what_is_allowed(told: Told, three: Path, words: tuple[str, ...], message: str) -> None:
    done = told("runs", *words)
    assert done.code == 2 and message in done.err and "Traceback" not in done.err and not done.out
    assert len(names(told)) == 3


def test_a_run_shows_what_is_unlike_the_defaults_its_changes_and_notes(told: Told, three: Path) -> None:
    list(runs.find("a").record([ev.Changed(step=8, key="optim.lr", old=0.001, new=0.0005)]))
    assert told("runs", "tag", "a", "good", "keep").out == "good keep\n"
    assert told("runs", "tag", "a", "--drop", "good").out == "keep\n"
    assert told("runs", "note", "a", "the lowest loss").code == 0
    shown = told("runs", "show", "a").out
    assert re.search(r"^model\.d_model +8  \(default 64\)$", shown, re.MULTILINE) and "optim.momentum" not in shown
    assert "step 8: optim.lr 0.001 → 0.0005" in shown and "keep" in shown and "the lowest loss" in shown
    found = json.loads(told("runs", "show", "a", "--json").out)
    assert found["tags"] == ["keep"] and found["note"] == "the lowest loss" and found["changed"][0]["new"] == 0.0005
    assert "optim.lr" not in found["not_default"] and found["not_default"]["model.d_model"] == 8
    assert names(told, "--where", "tag=keep") == ["a"] == names(told, "--where", "note~LOWEST")
    assert "the lowest loss" in told("runs", "ls").out


def test_a_note_cannot_drive_the_terminal(told: Told, three: Path) -> None:
    write_notes(three / "a", [], "\x1b[2Jgone\u202e")
    for done in (told("runs", "ls"), told("runs", "show", "a")):
        assert "\x1b" not in done.out and "\u202e" not in done.out and r"\x1b[2Jgone\u202e" in done.out


def test_runs_are_compared_by_what_differs(told: Told, three: Path) -> None:
    found = json.loads(told("runs", "compare", "a", "b", "sweep/trials/000", "--json").out)
    assert found["different"] == {"optim.lr": [0.001, 0.02, 0.1]}
    assert [row["name"] for row in found["runs"]] == ["a", "b", "000"]
    assert [row["train_loss"] for row in found["runs"]] == [1.0, 2.0, 3.0]
    shown = told("runs", "compare", "a", "b").out
    assert re.search(r"^optim\.lr +0\.001 +0\.02", shown, re.MULTILINE) and "optim.momentum" not in shown
    recorded(three / "same", config=tiny("optim.lr=0.001"))
    assert "no setting differs" in told("runs", "compare", "a", "same").out


def test_runs_of_one_name_are_told_apart_by_their_folders(told: Told, tmp_path: Path) -> None:
    one, two = (recorded(tmp_path / place / "000").path for place in ("x", "y"))
    found = json.loads(told("runs", "compare", one, two, one, "--json").out)
    assert [row["name"] for row in found["runs"]] == ["x/000", "y/000"]


def test_runs_answer_one_prompt_side_by_side(told: Told, tmp_path: Path) -> None:
    trained(tmp_path / "short", "train.steps=1")
    trained(tmp_path / "long", "train.steps=9")
    words = ("runs", "compare", tmp_path / "short", tmp_path / "long", "--prompt", "123", "--max-new-tokens", 4)
    found = json.loads(told(*words, "--json").out)
    assert found["said"].keys() == {"short", "long"} and all(len(said) == 4 for said in found["said"].values())
    assert found["different"] == {"train.steps": [1, 9]}
    assert list(found["said"].values()) in [line.split() for line in told(*words).out.splitlines()]
    assert "(" in json.loads(told(*words[:-3], "xyz", "--json").out)["said"]["short"]


def test_records_are_exported_by_their_ending_or_format(told: Told, three: Path, tmp_path: Path) -> None:
    assert told("runs", "export", "a", "b", "--to", tmp_path / "x.csv").out == f"{tmp_path / 'x.csv'}\n"
    with (tmp_path / "x.csv").open(newline="", encoding="utf-8") as stream:
        assert [row["run"] for row in csv.DictReader(stream)] == ["a", "b"]
    told("runs", "export", "a", "--to", tmp_path / "x.txt", "--format", "json")
    assert json.loads((tmp_path / "x.txt").read_text("utf-8"))["runs"][0]["name"] == "a"
    told("runs", "export", "a", "b", "--to", tmp_path / "logs", "--format", "tensorboard")
    assert sorted(path.parent.name for path in (tmp_path / "logs").glob("*/*tfevents*")) == ["a", "b"]


def test_an_export_never_replaces_a_file_of_a_run(told: Told, three: Path) -> None:
    before = (three / "a" / "summary.json").read_text("utf-8")
    done = told("runs", "export", "b", "--to", three / "a" / "summary.json")
    assert done.code == 2 and "this is a file of the run in" in done.err
    assert (three / "a" / "summary.json").read_text("utf-8") == before


def test_runs_are_removed_all_or_none(told: Told, three: Path) -> None:
    (three / "link").symlink_to(three / "a")
    with FileLock(three / "b" / LOCK):
        done = told("runs", "rm", "a", "b", "--yes")
    assert done.code == 2 and "it is being trained now" in done.err and len(names(told)) == 4
    assert "a link, which is not followed" in told("runs", "rm", "link", "--yes").err
    done = told("runs", "rm", "a", three / "b", "a", "--yes")
    assert done.code == 0 and done.out.count("\nremoved") == 1
    (three / "link").unlink()
    assert names(told) == ["sweep/trials/000"]


def test_curves_are_laid_over_each_other_in_a_picture(told: Told, three: Path, tmp_path: Path) -> None:
    assert str(tmp_path / "x.svg") in told("runs", "compare", "a", "b", "--curves", tmp_path / "x.svg").out
    drawn = (tmp_path / "x.svg").read_text("utf-8")
    assert drawn.count(">a<") >= 1 and drawn.count(">b<") >= 1
    list(runs.find("a").record([evaluated(8, 0.75)]))
    told("runs", "export", "a", "--to", tmp_path / "new" / "a.svg")
    assert "best 0.7500 at 8" in (tmp_path / "new" / "a.svg").read_text("utf-8")
    told("runs", "export", "a", "--to", tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    done = told("runs", "compare", "a", "b", "--curves", tmp_path / "x.gif")
    assert done.code == 2 and "allowed endings of a picture are .svg, .png" in done.err
    recorded(three / "empty", [])
    assert "nothing to draw" in told("runs", "export", "empty", "--to", tmp_path / "e.svg").err

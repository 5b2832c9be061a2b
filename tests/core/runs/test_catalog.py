"""The catalog: one row per run, whatever the state of its files."""

import json
import math
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.recorded import (
    STARTED,
    Ending,
    evaluated,
    recorded,
    recorded_script,
    script_config,
    script_story,
    story,
    update,
)
from tests.core.tiny import tiny
from tui_lab.core import events as ev
from tui_lab.core.runs import catalog as cat
from tui_lab.core.runs.event_log import line_of
from tui_lab.core.runs.run_files import LOCK
from tui_lab.util.errors import ConfigError


def row(path: Path) -> cat.RunRow:
    return cat.row_of(path, path.name)


def test_row_has_the_results_of_the_run(tmp_path: Path) -> None:
    run = recorded(tmp_path / "a", config=tiny("optim.lr=0.02"))
    one = row(run.path)
    assert (one.state, one.steps, one.train_loss) == ("done", 8, 2.0 / 8)
    assert (one.val_loss, one.best_val_loss, one.best_step) == (1.0, 1.0, 8)
    assert (one.metric_name, one.metric, one.n_parameters, one.seconds) == ("exact_match", 0.25, 1234, 4.0)
    assert one.config == tiny("optim.lr=0.02") and not one.problem


def test_row_of_a_killed_run_equals_that_of_its_summary(tmp_path: Path) -> None:
    change = ev.Changed(step=4, key="optim.lr", old=0.01, new=0.02)
    events = [*list(story(40))[:-1], change]
    finished = recorded(tmp_path / "a", events)
    killed = recorded(tmp_path / "b", events, summary=False)
    (killed.path / "digest.json").unlink()
    assert row(killed.path).state == "interrupted"
    for name in (
        "state",
        "steps",
        "train_loss",
        "val_loss",
        "best_val_loss",
        "best_step",
        "n_parameters",
        "seconds",
        "changes",
    ):
        assert getattr(row(killed.path), name) == getattr(row(finished.path), name), name
    for digest in ("", None, "damaged"):
        if digest is None:
            (finished.path / "digest.json").unlink()
        elif digest:
            (finished.path / "digest.json").write_text(digest)
        assert row(finished.path).changes == (change,) == tuple(finished.log.changes())
    assert row(finished.path).setting("optim.lr") == 0.02


@pytest.mark.parametrize("digest", [True, False])
def test_only_the_ends_of_a_long_log_are_read(tmp_path: Path, digest: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = [update(step) for step in range(1, 300)]
    events = [
        STARTED,
        *steps[:100],
        evaluated(100, 1.0),
        *steps[100:200],
        evaluated(200, 2.0, best=False),
        *steps[200:],
    ]
    run = recorded(tmp_path / "a", events, summary=False)
    if digest:
        for _ in run.record([ev.Saved(step=299, path="checkpoints/step-000000299")]):
            pass
        for _ in run.record([update(300)]):
            pass
    # The part that is not read may be damaged.
    record = run.path / "events.jsonl"
    first, *middle, last = record.read_bytes().splitlines(keepends=True)
    record.write_bytes(first + b"".join(b"?" * (len(line) - 1) + b"\n" for line in middle) + last)
    monkeypatch.setattr(cat, "TAIL", len(last) + 5)
    one = row(run.path)
    assert one.state == "interrupted" and one.n_parameters == 1234
    assert (one.steps, one.best_step) == ((300, 100) if digest else (299, None))


def test_summary_older_than_the_event_log_is_ignored(tmp_path: Path) -> None:
    run = recorded(tmp_path / "a")
    for _ in run.record([STARTED, update(9, 0.125)]):
        pass
    os.utime(run.path / "summary.json", ns=(0, 0))
    assert (row(run.path).steps, row(run.path).train_loss, row(run.path).state) == (9, 0.125, "interrupted")


def test_runs_are_found_below_the_root_but_not_through_links(tmp_path: Path) -> None:
    root = tmp_path / "runs"
    elsewhere = tmp_path / "elsewhere"
    for place in (root / "b", root / "sweep" / "trials" / "000", elsewhere / "c", root / ".hidden"):
        recorded(place)
    (root / "b" / "checkpoints").mkdir()
    (root / "loop").symlink_to(root)
    (root / "other").symlink_to(elsewhere)
    (root / "c").symlink_to(elsewhere / "c")
    (root / "gone").symlink_to(tmp_path / "nowhere")
    assert {one.name for one in cat.find_runs(root)} == {"b", "c", "sweep/trials/000"}
    assert [one.path for one in cat.find_runs(root / "b")] == [root / "b"]
    assert cat.find_runs(tmp_path / "nowhere") == []


def test_rows_are_sorted_by_creation(tmp_path: Path) -> None:
    for name, age in (("new", 3), ("old", 1), ("middle", 2)):
        os.utime(recorded(tmp_path / name).path / "config.toml", (age, age))
    assert [one.name for one in cat.find_runs(tmp_path)] == ["old", "middle", "new"]


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("config.toml", "model = 1"),
        ("config.toml", "[optim]\nlr = 1e9"),
        ("config.toml", "= ["),
        ("events.jsonl", '{"event": "step"}\n'),
        ("events.jsonl", "[1]\n"),
        ("events.jsonl", "\x00" * 99 + "\n"),
    ],
)
def test_damaged_run_is_a_row_with_its_problem(tmp_path: Path, file: str, text: str) -> None:
    run = recorded(tmp_path / "a", summary=False)
    (run.path / "digest.json").unlink()
    (run.path / file).write_text(text, "utf-8")
    recorded(tmp_path / "b")
    damaged, sound = sorted(cat.find_runs(tmp_path), key=lambda one: one.name)
    assert (damaged.state, sound.state) == ("damaged", "done")
    assert damaged.problem and "\n" not in damaged.problem


@settings(deadline=None, max_examples=40)
@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    ),
    st.sampled_from(["steps", "reason", "train_loss", "parameters", "train_seconds", "exact_match", "other"]),
)
def test_damaged_summary_or_notes_do_not_stop_the_listing(value: object, key: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = recorded(Path(folder) / "a").path
        summary = json.loads((path / "summary.json").read_text("utf-8"))
        (path / "summary.json").write_text(json.dumps(summary | {key: value}), "utf-8")
        (path / "notes.json").write_text(json.dumps({"tags": value, "note": value}), "utf-8")
        one = row(path)
    assert isinstance(one.state, str) and isinstance(one.steps, int | float) and isinstance(one.note, str)
    assert all(isinstance(tag, str) for tag in one.tags)


def test_notes_are_saved_with_each_tag_once(tmp_path: Path) -> None:
    run = recorded(tmp_path / "a")
    assert (row(run.path).tags, row(run.path).note) == ((), "")
    cat.write_notes(run.path, ["good", "keep", "good"], "λ helps\nmuch")
    assert (row(run.path).tags, row(run.path).note) == (("good", "keep"), "λ helps\nmuch")
    for invalid in ("two words", "a,b", "", "\x1b[31m", "x" * 41):
        with pytest.raises(ConfigError) as caught:
            cat.write_notes(run.path, [invalid], "")
        assert (caught.value.problems[0].key, caught.value.problems[0].value) == ("tag", invalid)
    with pytest.raises(ConfigError) as caught:
        cat.write_notes(run.path, [], "x" * 70_000)
    assert caught.value.code == "too_large"
    assert row(run.path).tags == ("good", "keep")


def test_config_differences_has_only_settings_that_differ(tmp_path: Path) -> None:
    for name, lr in (("a", 0.02), ("b", 0.02), ("c", 0.5)):
        recorded(tmp_path / name, config=tiny(f"optim.lr={lr}", "train.seed=3"))
    rows = sorted(cat.find_runs(tmp_path), key=lambda one: one.name)
    assert cat.config_differences(rows) == {"optim.lr": [0.02, 0.02, 0.5]}
    assert cat.config_differences(rows[:2]) == {} == cat.config_differences([])


def test_run_in_use_is_running(tmp_path: Path) -> None:
    run = recorded(tmp_path / "a")
    lock = run.lock()
    assert row(run.path).state == "running"
    lock.release()
    assert row(run.path).state == "done"


def test_run_in_use_is_paused_until_it_is_resumed(tmp_path: Path) -> None:
    run = recorded(tmp_path / "a", [STARTED, update(1), ev.Paused(step=1)], summary=False)
    lock = run.lock()
    assert row(run.path).state == "paused"
    list(run.record([ev.Resumed(step=1)]))
    assert row(run.path).state == "running"
    lock.release()
    assert row(run.path).state == "interrupted"


def test_run_resumed_before_the_end_that_is_read_is_not_paused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cat, "TAIL", 2000)
    saved = ev.Saved(step=1, path="checkpoints/step-1")  # The digest, which is written here, ends with the pause.
    run = recorded(tmp_path / "a", [STARTED, update(1), ev.Paused(step=1), saved], summary=False)
    lock = run.lock()
    assert row(run.path).state == "paused"
    with run.log.path.open("ab") as log:
        log.writelines(line_of(event) for event in [ev.Resumed(step=1), *(update(step) for step in range(2, 30))])
    assert (row(run.path).state, row(run.path).steps) == ("running", 29)
    lock.release()


def test_lock_that_cannot_be_read_is_ignored(tmp_path: Path) -> None:
    run = recorded(tmp_path / "a")
    (run.path / LOCK).unlink(missing_ok=True)
    (run.path / LOCK).mkdir()
    assert row(run.path).state == "done"


@pytest.mark.parametrize("ending", ["done", "stopped", "failed"])
def test_row_of_a_script_has_its_results(tmp_path: Path, ending: Ending) -> None:
    one = row(recorded_script(tmp_path / "a", ending=ending).path)
    assert (one.kind, one.state, one.steps, one.train_loss, one.n_parameters) == ("script", ending, 8, 2.0 / 8, 4321)
    assert (one.val_loss, one.best_step, one.metric_name, one.seconds) == (1.0 / 8, 8, None, 4.0)
    assert one.config == script_config() and not one.problem


@pytest.mark.parametrize("is_live", [True, False])
@pytest.mark.parametrize("started", [True, False])
def test_row_of_a_script_without_an_end(tmp_path: Path, started: bool, is_live: bool) -> None:
    run = recorded_script(tmp_path / "a", started=started, ending="running")
    lock = run.lock() if is_live else None
    one = row(run.path)
    assert (one.state, one.steps) == ("running" if is_live else "interrupted", 8 if started else 0)
    assert one.problem == "" and one.n_parameters == (4321 if started else None)
    if lock is not None:
        lock.release()


def test_script_that_failed_before_its_first_step(tmp_path: Path) -> None:
    one = row(recorded_script(tmp_path / "a", started=False, ending="failed").path)
    assert (one.state, one.steps, one.train_loss, one.kind) == ("failed", 0, None, "script")
    assert one.message == "ValueError: no more data"


@pytest.mark.parametrize("summary", [True, False])
def test_script_that_ended_without_a_step_is_not_done(tmp_path: Path, summary: bool) -> None:
    events = [ev.Warned(step=0, message="it made no step"), ev.Stopped(step=0, reason="done")]
    run = recorded_script(tmp_path / "a", events=events)
    if not summary:
        (run.path / "summary.json").unlink()
    one = row(run.path)
    assert (one.state, one.steps, one.message) == ("no-steps", 0, "it made no step")


def test_warnings_of_a_run_with_steps_are_not_its_message(tmp_path: Path) -> None:
    run = recorded(
        tmp_path / "a", [STARTED, ev.Warned(step=0, message="slow"), update(1), ev.Stopped(step=1, reason="done")]
    )
    assert (row(run.path).state, row(run.path).message) == ("done", "")


@pytest.mark.parametrize(
    "text", ['kind = "scirpt"\n', 'kind = "script"\n[modle]\n', 'kind = "script"\n[settings', "kind = 3"]
)
def test_damaged_config_of_a_script_is_a_damaged_row(tmp_path: Path, text: str) -> None:
    run = recorded_script(tmp_path / "a")
    (run.path / "config.toml").write_text(text, "utf-8")
    assert (row(run.path).state, row(run.path).kind) == ("damaged", None) and row(run.path).problem


def test_settings_of_scripts_that_differ(tmp_path: Path) -> None:
    configs = [script_config(), script_config(learning_rate=0.5, seed=1), script_config(best=math.nan)]
    rows = [row(recorded_script(tmp_path / str(number), config=one).path) for number, one in enumerate(configs)]
    assert cat.config_differences(rows[:2]) == {"settings.learning_rate": [0.01, 0.5], "settings.seed": [None, 1]}
    assert cat.config_differences([rows[2], rows[2]]) == {}


def test_settings_of_a_script_and_of_our_trainer_that_differ(tmp_path: Path) -> None:
    script = row(recorded_script(tmp_path / "a").path)
    ours = [
        row(recorded(tmp_path / f"b{lr}", config=tiny(f"optim.lr={lr}", "optim.momentum=0.5")).path) for lr in (1, 2)
    ]
    both = cat.config_differences([script, ours[0]])
    assert both["optim.lr"] == [0.01, 1.0] and both["optim.name"] == ["AdamW", "adam"]
    assert not both.keys() & {"settings.learning_rate", "model.name", "model.d_model", "train.steps", "optim.momentum"}
    assert cat.config_differences([script, *ours])["optim.lr"] == [0.01, 1.0, 2.0]


def test_script_that_logged_before_its_first_step_has_its_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events = [ev.Warned(step=0, message="slow"), ev.Logged(step=0, values={"a": 1.0}), *script_story(200, "running")]
    run = recorded_script(tmp_path / "a", events=events, ending="running")
    monkeypatch.setattr(cat, "TAIL", 2000)
    assert (row(run.path).n_parameters, row(run.path).steps) == (4321, 200)

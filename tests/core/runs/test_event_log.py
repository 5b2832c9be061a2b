"""The event log and its downsampled log: single events and peaks are kept; digest.json may be old or missing."""

import errno
import json
import random
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tui_lab.core import events as ev
from tui_lab.core.runs import downsampled_log, event_log
from tui_lab.core.runs.append_log import Appender
from tui_lab.core.runs.downsampled_log import DownsampledLog
from tui_lab.core.runs.event_log import EventLog, line_of
from tui_lab.util import files
from tui_lab.util.errors import RunError


def update(step: int, loss: float = 1.0, ratio: float | None = None) -> ev.StepDone:
    return ev.StepDone(
        step=step,
        loss=loss,
        loss_ema=loss,
        lr=0.1,
        grad_norm=1.0,
        epoch=0,
        tokens=step,
        seconds=0.5,
        tokens_per_s=2.0,
        update_ratio=ratio,
    )


def evaluated(step: int, loss: float = 1.0) -> ev.Evaluated:
    return ev.Evaluated(step=step, val_loss=loss, exact_match=None, perplexity=1.0, examples=1, best=False)


def some_events(steps: int) -> list[ev.Event]:
    """Steps, with evaluations and changes between them."""
    draw = random.Random(steps)
    events: list[ev.Event] = []
    for step in range(1, steps + 1):
        events.append(update(step, draw.random(), draw.random() if step % 10 == 0 else None))
        if step % 4 == 0:
            events.append(evaluated(step, draw.random()))
        if step % 7 == 0:
            events.append(ev.Changed(step=step, key="optim.lr", old=1, new=2))
    return events


@given(st.integers(0, 400))
@settings(deadline=None)
def test_downsampled_log_keeps_single_events_extremes_and_order(steps: int) -> None:
    log = DownsampledLog(limit=8)
    events = some_events(steps)
    for event in events:
        log.add(event)
    kept = log.events()
    assert kept == [event for event in events if event in kept], "in order, and nothing new"
    assert [e for e in kept if isinstance(e, ev.Changed)] == [e for e in events if isinstance(e, ev.Changed)]
    assert len([e for e in kept if not isinstance(e, ev.Changed)]) <= 3 * 4 * 8
    for extreme in (min, max):
        assert not events or extreme(losses(kept)) == extreme(losses(events))
    assert log.seconds == 0.5 * steps


def losses(events: list[ev.Event]) -> list[float]:
    return [event.loss for event in events if isinstance(event, ev.StepDone)]


def record(folder: Path, events: list[ev.Event]) -> EventLog:
    log = EventLog(folder / "events.jsonl", folder / "digest.json")
    assert list(log.write(events)) == events
    return log


@pytest.mark.parametrize("damage", ["none", "lag", "gone", "garbage", "too long", "within a line"])
def test_downsampled_log_is_complete_whatever_the_state_of_its_file(
    damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_log, "DIGEST_EVERY", 50)
    events = some_events(100)
    log = record(tmp_path, events)
    content = json.loads((tmp_path / "digest.json").read_text())
    assert 0 < content["offset"] <= log.path.stat().st_size
    if damage == "gone":
        log.digest_path.unlink()
    elif damage == "garbage":
        log.digest_path.write_text("{")
    elif damage == "lag":
        with log.path.open("ab") as out:
            out.write(line_of(update(101)))
        events.append(update(101))
    elif damage in ("too long", "within a line"):
        log.digest_path.write_text(json.dumps(content | {"offset": 10**9 if damage == "too long" else 5, "events": []}))
    downsampled = log.downsampled()
    assert downsampled.events() == events
    assert downsampled.seconds == 0.5 * len([event for event in events if isinstance(event, ev.StepDone)])


@given(st.lists(st.integers(0, 3), max_size=60), st.integers(0, 70))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_bisection_finds_the_first_line_of_a_step(tmp_path: Path, gaps: list[int], wanted: int) -> None:
    folder = Path(tempfile.mkdtemp(dir=tmp_path))
    steps = [sum(gaps[: i + 1]) for i in range(len(gaps))]
    events: list[ev.Event] = [ev.Warned(step=step, message="x" * (step % 5)) for step in steps]
    log = record(folder, events)
    before = b"".join(line_of(event) for event in log.read() if event.step < wanted)
    assert log.offset_of(wanted) == len(before)


@pytest.mark.parametrize("step", [0, 1, 36, 70, 99, 100])
def test_rewind_drops_events_from_both_logs(step: int, tmp_path: Path) -> None:
    log = record(tmp_path, some_events(100))
    log.rewind(step, 0.5 * step)
    kept = [event for event in some_events(100) if event.step <= step]
    assert list(log.read()) == kept and log.downsampled().events() == kept
    assert log.downsampled().seconds == 0.5 * step
    assert json.loads(log.digest_path.read_text())["offset"] == log.path.stat().st_size


def test_rewind_drops_a_change_after_the_save_and_keeps_evaluations(tmp_path: Path) -> None:
    changed = ev.Changed(step=2, key="optim.lr", old=1, new=2)
    saved = ev.Saved(step=2, path="there")
    events = [update(1), update(2), saved, changed, evaluated(2), update(3)]
    log = record(tmp_path, events)
    log.rewind(2, 1.0)
    assert list(log.read()) == [update(1), update(2), saved, evaluated(2)]


def test_rewind_keeps_a_change_before_the_last_save_of_the_step(tmp_path: Path) -> None:
    changed = ev.Changed(step=2, key="optim.lr", old=1, new=2)
    events = [update(2), ev.Saved(step=2, path="a"), changed, ev.Saved(step=2, path="b")]
    log = record(tmp_path, [*events, replace(changed, new=3), update(3)])
    log.rewind(2, 1.0, "b")
    assert list(log.read()) == events


def test_rewind_removes_a_torn_line(tmp_path: Path) -> None:
    log = record(tmp_path, [update(1), update(2)])
    with log.path.open("ab") as out:
        out.write(b'{"event": "step", "step": 3, "lo')
    log.rewind(2, 1.0)
    assert log.path.read_bytes() == line_of(update(1)) + line_of(update(2))


def test_damaged_line_is_named_in_the_error(tmp_path: Path) -> None:
    log = record(tmp_path, [update(1)])
    with log.path.open("ab") as out:
        out.write(b"nonsense\n")
    with pytest.raises(RunError) as caught:
        list(log.read())
    assert (caught.value.code, caught.value.problems[0].key) == ("damaged", f"{log.path}, line 2")


def test_failed_write_of_the_downsampled_log_leaves_no_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = record(tmp_path, [update(1), ev.Saved(step=1, path="there")])

    def full(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(files, "write_text", full)
    list(log.write([update(2), ev.Saved(step=2, path="there")]))
    assert not log.digest_path.exists() and len(log.downsampled().events()) == 4


def test_newest_logged_texts_and_every_value_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downsampled_log, "MOST_CHARACTERS", 1000)
    log = DownsampledLog()
    logged = [
        ev.Logged(step=step, values={"accuracy": 0.5} if step % 2 else {}, texts={"sample": "x" * 100})
        for step in range(1, 31)
    ]
    for event in logged:
        log.add(event)
    kept = [event for event in log.events() if isinstance(event, ev.Logged)]
    with_text = [event for event in kept if event.texts]
    assert with_text == logged[-len(with_text) :] and 5 <= len(with_text) <= 10
    assert [event.step for event in kept if event.values] == list(range(1, 31, 2))
    assert all(event.values or event.texts for event in kept)


def test_a_logged_text_beyond_the_limit_is_kept_while_it_is_the_newest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downsampled_log, "MOST_CHARACTERS", 1000)
    log = DownsampledLog()
    long, short = (ev.Logged(step=step, texts={"sample": "x" * size}) for step, size in ((1, 2000), (2, 10)))
    log.add(long)
    assert log.events() == [long]
    log.add(short)
    assert log.events() == [short]


def test_events_apart_from_steps_are_recorded_with_their_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: 1234.5678)
    log = EventLog(tmp_path / "events.jsonl", tmp_path / "digest.json")
    events = [update(1), evaluated(1), ev.Stopped(step=1, reason="done")]
    assert list(log.write(events)) == events == list(log.read())
    assert [event.time for event in log.read()] == [None, 1234.568, 1234.568]
    assert [event.time for event in log.stored_downsampled()[0].events()] == [None, 1234.568, 1234.568]


@pytest.mark.parametrize("kinds", [["changed"], ["step", "changed"], ["changed", "step"], ["changed", "changed"]])
def test_every_failed_write_is_reported_by_the_end(
    kinds: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(out: Appender, line: bytes) -> NoReturn:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(Appender, "_write", full)
    by_kind = {"step": update(1), "changed": ev.Changed(step=1, key="optim.lr", old=1, new=2)}
    log = EventLog(tmp_path / "events.jsonl", tmp_path / "digest.json")
    written = [event.kind for event in log.write([by_kind[kind] for kind in kinds])]
    assert written[-1] == "unwritten" and written.count("unwritten") == 1 + (kinds == ["step", "changed"])

"""The record and its digest: nothing that happens once is lost, no peak either, and a digest may lag or be gone."""

import json
import random
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tui_lab.core import events as ev
from tui_lab.core.runs import event_log
from tui_lab.core.runs.downsampled_log import DownsampledLog
from tui_lab.core.runs.event_log import EventLog, line_of
from tui_lab.util import files
from tui_lab.util.errors import RunError


def update(step: int, loss: float = 1.0, ratio: float | None = None) -> ev.StepDone:
    return ev.StepDone(step=step, loss=loss, loss_ema=loss, lr=0.1, grad_norm=1.0, epoch=0, tokens=step, seconds=0.5,
                       tokens_per_s=2.0, update_ratio=ratio)  # fmt: skip


def evaluated(step: int, loss: float = 1.0) -> ev.Evaluated:
    return ev.Evaluated(step=step, val_loss=loss, exact_match=None, perplexity=1.0, examples=1, best=False)


def story(steps: int) -> list[ev.Event]:
    """Updates with all else that may happen between them."""
    draw, told = random.Random(steps), list[ev.Event]()
    for step in range(1, steps + 1):
        told.append(update(step, draw.random(), draw.random() if step % 10 == 0 else None))
        if step % 4 == 0:
            told.append(evaluated(step, draw.random()))
        if step % 7 == 0:
            told.append(ev.Changed(step=step, key="optim.lr", old=1, new=2))
    return told


@given(st.integers(0, 400))
@settings(deadline=None)
def test_a_digest_keeps_what_happens_once_the_extremes_and_the_order(steps: int) -> None:
    digest, told = DownsampledLog(limit=8), story(steps)
    for event in told:
        digest.add(event)
    kept = digest.events()
    assert kept == [event for event in told if event in kept], "in order, and nothing new"
    assert [e for e in kept if isinstance(e, ev.Changed)] == [e for e in told if isinstance(e, ev.Changed)]
    assert len([e for e in kept if not isinstance(e, ev.Changed)]) <= 3 * 4 * 8
    for wanted in (min, max):
        assert not told or wanted(losses(kept)) == wanted(losses(told))
    assert digest.seconds == 0.5 * steps


def losses(events: list[ev.Event]) -> list[float]:
    return [event.loss for event in events if isinstance(event, ev.StepDone)]


def record(folder: Path, events: list[ev.Event]) -> EventLog:
    found = EventLog(folder / "events.jsonl", folder / "digest.json")
    assert list(found.write(events)) == events
    return found


@pytest.mark.parametrize("damage", ["none", "lag", "gone", "garbage", "too long", "within a line"])
def test_a_digest_tells_what_the_record_tells_however_its_file_is(
    damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_log, "DIGEST_EVERY", 50)
    told = story(100)
    found = record(tmp_path, told)
    whole = json.loads((tmp_path / "digest.json").read_text())
    assert 0 < whole["offset"] <= found.path.stat().st_size
    if damage == "gone":
        found.digest_path.unlink()
    elif damage == "garbage":
        found.digest_path.write_text("{")
    elif damage == "lag":
        with found.path.open("ab") as out:
            out.write(line_of(update(101)))
        told.append(update(101))
    elif damage in ("too long", "within a line"):
        found.digest_path.write_text(json.dumps(whole | {"offset": 10**9 if damage == "too long" else 5, "events": []}))
    digest = found.downsampled()
    assert digest.events() == told and digest.seconds == 0.5 * len([e for e in told if isinstance(e, ev.StepDone)])


@given(st.lists(st.integers(0, 3), max_size=60), st.integers(0, 70))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_bisection_finds_the_first_line_of_a_step(tmp_path: Path, gaps: list[int], wanted: int) -> None:
    folder = Path(tempfile.mkdtemp(dir=tmp_path))
    steps = [sum(gaps[: i + 1]) for i in range(len(gaps))]
    events: list[ev.Event] = [ev.Warned(step=step, message="x" * (step % 5)) for step in steps]
    found = record(folder, events)
    before = b"".join(line_of(event) for event in events if event.step < wanted)
    assert found.offset_of(wanted) == len(before)


@pytest.mark.parametrize("step", [0, 1, 36, 70, 99, 100])
def test_rewinding_forgets_in_the_record_and_in_the_digest(step: int, tmp_path: Path) -> None:
    found = record(tmp_path, story(100))
    found.rewind(step, 0.5 * step)
    kept = [event for event in story(100) if event.step <= step]
    assert list(found.read()) == kept and found.downsampled().events() == kept
    assert found.downsampled().seconds == 0.5 * step
    assert json.loads(found.digest_path.read_text())["offset"] == found.path.stat().st_size


def test_rewinding_drops_a_change_made_after_the_save_and_keeps_what_follows(tmp_path: Path) -> None:
    changed, saved = ev.Changed(step=2, key="optim.lr", old=1, new=2), ev.Saved(step=2, path="there")
    told = [update(1), update(2), saved, changed, evaluated(2), update(3)]
    found = record(tmp_path, told)
    found.rewind(2, 1.0)
    assert list(found.read()) == [update(1), update(2), saved, evaluated(2)]


def test_rewinding_cuts_off_a_torn_line(tmp_path: Path) -> None:
    found = record(tmp_path, [update(1), update(2)])
    with found.path.open("ab") as out:
        out.write(b'{"event": "step", "step": 3, "lo')
    found.rewind(2, 1.0)
    assert found.path.read_bytes() == line_of(update(1)) + line_of(update(2))


def test_damage_is_told_with_its_place(tmp_path: Path) -> None:
    found = record(tmp_path, [update(1)])
    with found.path.open("ab") as out:
        out.write(b"nonsense\n")
    with pytest.raises(RunError, match=r"events\.jsonl, line 2"):
        list(found.read())


def test_a_digest_that_cannot_be_written_leaves_no_false_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = record(tmp_path, [update(1), ev.Saved(step=1, path="there")])

    def full(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(files, "write_text", full)
    list(found.write([update(2), ev.Saved(step=2, path="there")]))
    assert not found.digest_path.exists() and len(found.downsampled().events()) == 4

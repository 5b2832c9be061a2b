"""A small sample of `make torture`, and its comparison notices differences."""

import json
import random
from pathlib import Path

import pytest

from tests.core.tiny import tiny
from tools.torture import mutate
from tools.torture.comparison import outcome, readable, without_times
from tools.torture.kill import Torture
from tui_lab.core import events as ev
from tui_lab.core.runs import open_run
from tui_lab.core.runs.folder import Run


@pytest.mark.slow
def test_killed_run_ends_like_an_undisturbed_one(tmp_path: Path) -> None:
    records: list[dict[str, object]] = []
    summary = Torture(tmp_path, kills=2, seed=1, report=records.append, steps=60, fresh=True, modes=(False,)).run()
    assert summary["failures"] == [] and summary["lost"] == 0
    assert summary["kills"] == len(records) == 2


@pytest.fixture
def finished(tmp_path: Path) -> Run:
    opened = open_run.start("tiny", tiny("train.checkpoint_every=4", "train.eval_every=3"), tmp_path / "a")
    list(opened.run.record(opened.trainer.events()))
    opened.close()
    return opened.run


def with_fields(event: ev.Event, **fields: float) -> ev.Event:
    return ev.from_json(event.to_json() | fields)


def test_comparison_notices_lost_events_changed_weights_and_temporaries(finished: Run) -> None:
    whole = outcome(finished)
    assert readable(finished)["temporaries"] == 0 and outcome(finished) == whole
    (finished.path / ".writing-x").touch()
    assert outcome(finished)["temporaries"] == [".writing-x"] and readable(finished)["temporaries"] == 1
    events = list(finished.events())
    assert without_times(events) == without_times(
        [with_fields(e, seconds=9.0) if isinstance(e, ev.StepDone) else e for e in events]
    )
    assert without_times(events) != without_times(events[:3] + events[4:])
    assert without_times(events) != without_times(
        [with_fields(e, loss=9.0) if isinstance(e, ev.StepDone) else e for e in events]
    )
    weights = finished.latest() / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    assert outcome(finished)["weights"] != whole["weights"]


@pytest.mark.slow
def test_damaged_run_works_or_raises_a_lab_error(tmp_path: Path) -> None:
    sound = mutate.create_run(tmp_path / "sound")
    assert set(mutate.use(Path(mutate._copy(sound, tmp_path / "copy"))).values()) == {""}
    records = [mutate.judge(sound, tmp_path / "mutant", f"sample-{number}") for number in range(25)]
    assert 2 < len([record for record in records if record["refused"]]) < 25
    damaged = {str(record["file"]) for record in records}
    assert damaged >= {"state.json", "model.safetensors"} and damaged & {"events.jsonl", "digest.json", "summary.json"}


def test_resume_repairs_a_torn_last_line(finished: Run) -> None:
    path = finished.path / "events.jsonl"
    whole = path.read_bytes()
    for end in random.Random(0).sample(range(whole.rstrip().rfind(b"\n") + 2, len(whole)), 5):
        path.write_bytes(whole[:end])
        opened = open_run.resume(str(finished.path), None)
        list(opened.run.record(opened.trainer.events()))
        opened.close()
        lines = path.read_text("utf-8").splitlines()
        assert [json.loads(line)["event"] for line in lines][-2:] == ["started", "stopped"]

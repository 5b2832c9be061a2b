"""A fast sample of `make torture`; and that its judges can say no."""

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest

from tests.core.tiny import tiny
from tools.torture import mutate
from tools.torture.kill import Torture
from tools.torture.verdict import outcome, readable, story
from tui_lab.core import events as ev
from tui_lab.core.runs import open_run
from tui_lab.core.runs.folder import Run


def test_a_training_that_is_killed_ends_as_if_nobody_had(tmp_path: Path) -> None:
    told: list[dict[str, object]] = []
    found = Torture(tmp_path, kills=2, seed=1, tell=told.append, steps=60, fresh=True, modes=(False,)).run()
    assert found["failures"] == [] and found["lost"] == 0
    assert found["kills"] == len(told) == 2


@pytest.fixture
def finished(tmp_path: Path) -> Run:
    opened = open_run.begin("tiny", tiny("train.checkpoint_every=4", "train.eval_every=3"), tmp_path / "a")
    list(opened.run.record(opened.trainer.events()))
    opened.close()
    return opened.run


def test_the_verdict_sees_a_lost_update_a_changed_weight_and_what_was_left_lying(finished: Run) -> None:
    whole = outcome(finished)
    assert readable(finished)["temporaries"] == 0 and outcome(finished) == whole
    (finished.path / ".writing-x").touch()
    assert outcome(finished)["left"] == [".writing-x"] and readable(finished)["temporaries"] == 1
    events = list(finished.events())
    assert story(events) == story([replace(e, seconds=9.0) if isinstance(e, ev.StepDone) else e for e in events])
    assert story(events) != story(events[:3] + events[4:])
    assert story(events) != story([replace(e, loss=9.0) if isinstance(e, ev.StepDone) else e for e in events])
    weights = finished.latest() / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    assert outcome(finished)["weights"] != whole["weights"]


def test_a_damaged_run_is_refused_in_words_or_used_rightly(tmp_path: Path) -> None:
    sound = mutate.made(tmp_path / "sound")
    assert set(mutate.use(Path(mutate._copy(sound, tmp_path / "copy"))).values()) == {""}, "a sound one is used"
    found = [mutate.judge(sound, tmp_path / "mutant", f"sample-{number}") for number in range(60)]
    assert 10 < len([record for record in found if record["refused"]]) < 60
    assert {str(record["file"]) for record in found} >= {"events.jsonl", "state.json", "model.safetensors"}


def test_a_torn_last_line_is_repaired_by_going_on(finished: Run) -> None:
    path = finished.path / "events.jsonl"
    whole = path.read_bytes()
    for end in random.Random(0).sample(range(whole.rstrip().rfind(b"\n") + 2, len(whole)), 5):
        path.write_bytes(whole[:end])
        opened = open_run.reopen(str(finished.path), None)
        list(opened.run.record(opened.trainer.events()))
        opened.close()
        lines = path.read_text("utf-8").splitlines()
        assert [json.loads(line)["event"] for line in lines][-2:] == ["started", "stopped"]

"""The trainer_state.json of Hugging Face's Trainer as a run."""

import json
import math
from pathlib import Path

import pytest

from tests.core.runs.importing.reading import SAMPLES, evaluations, events, logged, sources, steps, written
from tui_lab.core.runs.importing.formats import states
from tui_lab.util.errors import DataError

STATE = SAMPLES / "huggingface" / "trainer_state.json"


def test_history_of_the_trainer() -> None:
    history = json.loads(STATE.read_text("utf-8"))["log_history"]
    found = events(STATE)
    trained = [record for record in history if "loss" in record]
    assert [(s.step, s.loss, s.lr, s.grad_norm) for s in steps(found)] == [
        (record["step"], record["loss"], record["learning_rate"], record["grad_norm"]) for record in trained
    ]
    expected = [(record["step"], record["eval_loss"]) for record in history if "eval_loss" in record]
    assert [(one.step, one.val_loss) for one in evaluations(found)] == expected
    [source] = sources(STATE)
    assert source.planned_steps == 20 and source.settings["train_batch_size"] == 8 and source.name == "huggingface"


def test_running_mean_counts_the_steps_of_each_mean(tmp_path: Path) -> None:
    """As the mean of the run itself does, whose losses are 4 in the first ten steps and then 1."""
    history = [{"step": 10, "loss": 4.0}, {"step": 20, "loss": 1.0}, {"step": 21, "loss": 2.0}]
    path = written(tmp_path / "trainer_state.json", json.dumps({"log_history": history}))
    after_twenty = 1.0 + 3.0 * 0.9**10
    expected = [4.0, after_twenty, 0.9 * after_twenty + 0.1 * 2.0]
    assert [step.loss_ema for step in steps(events(path))] == pytest.approx(expected)
    assert sources(path)[0].has_interval_means


def test_mean_of_the_whole_training_is_no_loss_of_a_step() -> None:
    """The last record of a state has it under train_loss, a name that is a step's loss elsewhere."""
    last = logged(events(STATE))[-1]
    assert last.step == 20 and "train_loss" in last.values and "train_runtime" in last.values


def test_losses_that_are_not_numbers_are_kept(tmp_path: Path) -> None:
    path = written(tmp_path / "trainer_state.json", '{"log_history": [{"step": 1, "loss": NaN, "note": "x"}]}')
    [step] = steps(events(path))
    assert math.isnan(step.loss) and step.extra is None
    assert sources(path)[0].ignored == ["note"]


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"log_history": 5}', '{"log_history": [5]}', '{"log_history": [{"loss": 1.0}]}',
     '{"log_history": [{"step": -1, "loss": 1.0}]}', '{"log_history": [{"step": 1.5, "loss": 1.0}]}',
     '{"log_history": [{"step": 2, "loss": 1.0}, {"step": 1, "loss": 1.0}]}', '{"log_history": []}', "[" * 100_000],
)  # fmt: skip
def test_what_is_no_state_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(DataError):
        events(written(tmp_path / "trainer_state.json", text))


def test_of_several_checkpoints_the_newest_state_counts(tmp_path: Path) -> None:
    for name in ("a/checkpoint-9", "a/checkpoint-100", "b/checkpoint-5", "b"):
        (tmp_path / name).mkdir(parents=True, exist_ok=True)
        (tmp_path / name / "trainer_state.json").write_text("{}", "utf-8")
    newest = {str(file.parent.relative_to(tmp_path)) for file in states(tmp_path)}
    assert newest == {"a/checkpoint-100", "b"}

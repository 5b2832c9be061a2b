"""TensorBoard event files as runs; written by torch's SummaryWriter and transformers' Trainer."""

import math
from pathlib import Path

import pytest

from tests.core.runs.importing.reading import SAMPLES, evaluations, events, sources, steps
from tests.core.runs.importing.test_trainer_state import STATE
from tui_lab.core.runs import tensorboard
from tui_lab.core.runs.importing.events import events_of
from tui_lab.util.errors import DataError

pytest.importorskip("tensorboard")


def write(path: Path, *messages: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as out:
        tensorboard.write_events(out, messages, 1.0)


def scalar(step: int, time: float, **values: float) -> bytes:
    return tensorboard.scalars(step, time, {name.replace("__", "/"): value for name, value in values.items()})


def test_each_folder_is_a_run() -> None:
    by_name = {source.name: source for source in sources(SAMPLES / "tensorboard")}
    assert list(by_name) == ["large", "small"]
    small = list(events_of(by_name["small"]))
    assert [step.loss for step in steps(small)] == pytest.approx([2.0 / (1 + 0.1 * n) for n in range(1, 13)], rel=1e-6)
    assert [step.seconds for step in steps(small)][:3] == [0.0, 1.0, 1.0]
    assert [one.step for one in evaluations(small)] == [4, 8, 12]
    large = list(events_of(by_name["large"]))
    assert math.isnan(steps(large)[-1].loss) and "weights" not in by_name["large"].others
    assert by_name["small"].created == 1.7e9 + 1


def test_event_file_and_state_of_one_training_agree() -> None:
    from_events = events(SAMPLES / "huggingface" / "logs")
    from_state = events(STATE)
    assert [s.step for s in steps(from_events)] == [s.step for s in steps(from_state)]
    assert [s.lr for s in steps(from_events)] == pytest.approx([s.lr for s in steps(from_state)], rel=1e-6)
    assert [s.loss for s in steps(from_events)] == pytest.approx([s.loss for s in steps(from_state)], rel=1e-6)
    losses = [[one.val_loss for one in evaluations(found)] for found in (from_events, from_state)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    assert sources(SAMPLES / "huggingface" / "logs")[0].notes == []


def test_train_and_validation_beside_each_other_are_one_run(tmp_path: Path) -> None:
    write(tmp_path / "train" / "events.out.tfevents.1", scalar(0, 1.0, epoch_loss=2.0), scalar(1, 2.0, epoch_loss=1.5))
    write(tmp_path / "validation" / "events.out.tfevents.1", scalar(0, 1.5, epoch_loss=2.5))
    found = events(tmp_path)
    assert [step.loss for step in steps(found)] == [2.0, 1.5]
    assert [(one.step, one.val_loss) for one in evaluations(found)] == [(0, 2.5)]


def test_after_a_restart_the_later_points_count(tmp_path: Path) -> None:
    write(tmp_path / "events.out.tfevents.1", *(scalar(n, float(n), loss=9.0) for n in range(1, 6)))
    write(tmp_path / "events.out.tfevents.2", *(scalar(n, 10.0 + n, loss=1.0) for n in range(4, 8)))
    [source] = sources(tmp_path)
    assert [(step.step, step.loss) for step in steps(list(events_of(source)))] == [
        (1, 9.0), (2, 9.0), (3, 9.0), (4, 1.0), (5, 1.0), (6, 1.0), (7, 1.0),
    ]  # fmt: skip
    assert len(source.notes) == 1


def test_a_file_that_begins_anew_is_another_run(tmp_path: Path) -> None:
    write(tmp_path / "events.out.tfevents.1", *(scalar(n, float(n), loss=9.0, hp=1.0) for n in range(1, 6)))
    write(tmp_path / "events.out.tfevents.2", *(scalar(n, 10.0 + n, loss=1.0) for n in range(1, 3)))
    write(tmp_path / "events.out.tfevents.3", *(scalar(n, 20.0 + n, loss=0.5) for n in range(2, 4)))
    found = sources(tmp_path)
    assert [source.name for source in found] == [tmp_path.name, f"{tmp_path.name}-2"]
    assert [[(step.step, step.loss) for step in steps(list(events_of(source)))] for source in found] == [
        [(n, 9.0) for n in range(1, 6)], [(1, 1.0), (2, 0.5), (3, 0.5)],
    ]  # fmt: skip
    assert len({source.sha256 for source in found}) == 2


def test_a_training_that_ended_before_it_logged_a_loss_is_left_out(tmp_path: Path) -> None:
    write(tmp_path / "events.out.tfevents.1", *(scalar(n, float(n), loss=9.0, lr=0.1) for n in range(1, 6)))
    write(tmp_path / "events.out.tfevents.2", scalar(1, 10.0, lr=0.1))
    [source] = sources(tmp_path)
    assert [step.loss for step in steps(list(events_of(source)))] == [9.0] * 5
    assert "tfevents.2" in source.notes[-1]


def test_a_tag_with_one_point_in_each_file_does_not_tell_trainings_apart(tmp_path: Path) -> None:
    """As the metric of hyperparameters that Lightning logs at step 0 of every file."""
    write(tmp_path / "events.out.tfevents.1", scalar(0, 0.0, hp=-1.0), *(scalar(n, 1.0, loss=9.0) for n in range(1, 4)))
    write(tmp_path / "events.out.tfevents.2", scalar(0, 5.0, hp=-1.0), *(scalar(n, 6.0, loss=1.0) for n in range(3, 5)))
    [source] = sources(tmp_path)
    assert [step.loss for step in steps(list(events_of(source)))] == [9.0, 9.0, 1.0, 1.0]


def test_file_that_was_cut_off_is_read_to_its_last_whole_record(tmp_path: Path) -> None:
    path = tmp_path / "events.out.tfevents.1"
    write(path, scalar(1, 1.0, loss=2.0), scalar(2, 2.0, loss=1.0))
    path.write_bytes(path.read_bytes()[:-5])
    assert [step.step for step in steps(events(tmp_path))] == [1]


@pytest.mark.parametrize("content", [b"", b"not an event file, but some text", bytes(100)])
def test_other_files_have_no_loss(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "events.out.tfevents.1").write_bytes(content)
    with pytest.raises(DataError):
        events(tmp_path)

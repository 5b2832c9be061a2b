"""When a checkpoint is written, and what a failed write leaves."""

from tests.core.tiny import last_checkpoint, of_kind
from tui_lab.core import events as ev
from tui_lab.core.training.checkpoint import Checkpoint
from tui_lab.core.training.checkpointing import Checkpointing


def state() -> Checkpoint:
    return last_checkpoint("train.steps=1")


def test_state_that_is_on_disk_is_not_written_again() -> None:
    checkpointing = Checkpointing(lambda checkpoint: "path", saved_step=3)
    assert not list(checkpointing.save(3, state))
    assert [event.kind for event in checkpointing.save(3, state, force=True)] == ["saved"]


def test_dirty_state_is_written_without_a_step() -> None:
    checkpointing = Checkpointing(lambda checkpoint: "path", saved_step=3)
    checkpointing.mark_dirty()
    assert [event.step for event in of_kind(ev.Saved, checkpointing.save(3, state))] == [3]


def test_checkpoint_is_due_every_n_steps_until_saved() -> None:
    checkpointing = Checkpointing(lambda checkpoint: "path")
    assert [step for step in range(7) if checkpointing.is_due(step, 3)] == [3, 6]
    assert not checkpointing.is_due(6, 0)
    list(checkpointing.save(6, state))
    assert not checkpointing.is_due(6, 3)


def test_failed_write_is_remembered_until_one_succeeds() -> None:
    errors = [OSError("disk full")]

    def save(checkpoint: Checkpoint) -> str:
        if errors:
            raise errors.pop()
        return "path"

    checkpointing = Checkpointing(save)
    assert len(of_kind(ev.SaveFailed, checkpointing.save(1, state))) == 1
    assert checkpointing.failed
    list(checkpointing.save_after_failure(1, state))
    assert not checkpointing.failed


def test_other_processes_do_not_write() -> None:
    def save(checkpoint: Checkpoint) -> str:
        raise AssertionError("only rank 0 writes")

    checkpointing = Checkpointing(save, writes=False)
    assert not list(checkpointing.save(3, state))
    assert not checkpointing.is_due(3, 3)


def test_lack_of_memory_after_a_failure_is_a_warning() -> None:
    def fail() -> Checkpoint:
        raise MemoryError

    checkpointing = Checkpointing(lambda checkpoint: "path")
    assert len(of_kind(ev.Warned, checkpointing.save_after_failure(1, fail))) == 1


def test_best_checkpoints_cost_two_percent_of_the_training_time() -> None:
    now = 0.0

    def save(checkpoint: Checkpoint) -> str:
        nonlocal now
        now += 1.0
        return "path"

    checkpointing = Checkpointing(save, clock=lambda: now)

    def saved(step: int, trained_seconds: float) -> bool:
        return bool(list(checkpointing.save_best(step, state, every=30, trained_seconds=trained_seconds)))

    assert [saved(step, float(step)) for step in (0, 10, 20, 49, 50, 99)] == [False, True, False, False, True, False]
    assert not saved(120, 120.0), "the checkpoint of this interval has the same weights"
    assert not list(Checkpointing(save, writes=False).save_best(10, state, every=0, trained_seconds=9.0))


def test_best_checkpoint_that_does_not_fit_into_memory_is_not_tried_again() -> None:
    def fail() -> Checkpoint:
        raise MemoryError

    checkpointing = Checkpointing(lambda checkpoint: "path")
    kinds = [type(event) for event in checkpointing.save_best(1, fail, every=0, trained_seconds=1.0)]
    assert kinds == [ev.Warned] and not list(checkpointing.save_best(2, state, every=0, trained_seconds=9.0))

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

"""The losses of rows that an update hands over: those of the definition, for every kernel, and nothing else changes."""

import copy
import errno

import numpy as np
import pytest
import torch

from tests.core.tiny import losses, of_kind, same_weights, tiny, trainer
from tui_lab.core import commands as cmd
from tui_lab.core import events as ev
from tui_lab.core.kernels import head_loss
from tui_lab.core.kernels.linear import Kernels
from tui_lab.core.model import Transformer
from tui_lab.core.training.setup import set_up
from tui_lab.core.training.task_factory import build_task
from tui_lab.core.training.trainer import Trainer
from tui_lab.core.training.update_rows import UpdateRows
from tui_lab.data.dataset import IGNORED
from tui_lab.data.loader import Batch

KERNELS = {
    "small vocabulary": (),
    "small vocabulary, bf16": ("train.precision=bf16",),
    "micro-batches": ("train.accumulate=3",),
    "onednn": ("train.matmul=onednn", "train.head_rows=7"),
    "blas": ("train.matmul=blas", "train.head_rows=7"),
    "bf16": ("train.precision=bf16", "train.head_rows=7"),
    "fp16": ("train.precision=fp16", "train.head_rows=7"),
}
IN_CHUNKS = ("onednn", "blas", "bf16", "fp16")
"""The kernels of a large vocabulary; a patched limit lets the small one use them."""


class Kept:
    """Keeps the rows of every update."""

    def __init__(self) -> None:
        self.updates: list[UpdateRows] = []

    def __call__(self, rows: UpdateRows) -> None:
        self.updates.append(rows)


@torch.no_grad()
def sums_in_float64(training: Trainer, batch: Batch) -> list[float]:
    """The sum of the losses of each row by the definition, at the weights as they are now."""
    model = copy.deepcopy(training.model).double()
    assert isinstance(model, Transformer)
    model.set_kernels(Kernels())
    logits = model(torch.from_numpy(batch.x))
    log_p = (logits - logits.logsumexp(dim=-1, keepdim=True)).numpy()
    return [
        sum(-log_p[row, place, target] for place, target in enumerate(targets) if target != IGNORED)
        for row, targets in enumerate(batch.y.tolist())
    ]


@pytest.mark.parametrize("kernel", KERNELS)
def test_kept_losses_are_those_of_the_definition_at_the_weights_of_the_step(
    kernel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kernel in IN_CHUNKS:
        monkeypatch.setattr(head_loss, "CHUNK_FROM_VOCAB", 2)
    config = tiny(*KERNELS[kernel], "train.batch_size=8", "data.skip_examples=[3, 8]", "train.steps=3")
    kept = Kept()
    training = Trainer(set_up(config, build_task(config)), keep_rows=kept)
    steps = (event for event in training.events() if isinstance(event, ev.StepDone))
    tolerance = 0.03 if "16" in kernel else 1e-5
    for number in range(3):
        batch = training.loader.batch(number)
        sums = sums_in_float64(training, batch)
        done = next(steps)
        update = kept.updates[number]
        assert (update.step, update.loss) == (done.step, done.loss)
        assert update.ids.tolist() == batch.ids.tolist()
        assert update.targets.tolist() == (batch.y != IGNORED).sum(axis=1).tolist()
        np.testing.assert_allclose(update.sums, sums, rtol=tolerance, atol=tolerance)
        assert update.sums.sum(dtype=np.float64) / update.targets.sum() == pytest.approx(done.loss, rel=1e-6)


@pytest.mark.parametrize("kernel", KERNELS)
def test_keeping_rows_changes_no_bit_of_the_training(kernel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if kernel in IN_CHUNKS:
        monkeypatch.setattr(head_loss, "CHUNK_FROM_VOCAB", 2)
    overrides = (*KERNELS[kernel], "model.dropout=0.2")
    keeping = trainer(*overrides, keep_rows=Kept())
    plain = trainer(*overrides)
    assert losses(keeping.events()) == losses(plain.events()) and same_weights(keeping, plain)


@pytest.mark.parametrize("fault", ["double_softmax", "double_shift", "gradient_ascent", "summed_loss", "wrong_divisor"])
def test_rows_have_the_loss_that_a_planted_fault_trains_on(fault: str) -> None:
    """Their sum is the recorded loss times its divisor."""
    kept = Kept()
    training = trainer(f'faults=["{fault}"]', "train.steps=2", keep_rows=kept)
    recorded = losses(training.events())
    for update, loss in zip(kept.updates, recorded, strict=True):
        divisor = {"summed_loss": 1, "wrong_divisor": len(update.ids)}.get(fault, update.targets.sum())
        assert update.sums.sum(dtype=np.float64) / divisor == pytest.approx(loss, rel=1e-6)
        assert (update.sums < 0).all() == (fault == "gradient_ascent")


def test_setting_turns_the_rows_off() -> None:
    kept = Kept()
    list(trainer("train.row_losses=false", keep_rows=kept).events())
    assert kept.updates == []


def test_live_change_of_the_batch_size_changes_the_number_of_rows() -> None:
    kept = Kept()
    training = trainer(keep_rows=kept)
    for event in training.events():
        if isinstance(event, ev.StepDone) and event.step == 3:
            training.commands.put(cmd.Set("train.batch_size", 7))
    assert [len(update.ids) for update in kept.updates] == [4, 4, 4, 7, 7, 7, 7, 7]


def test_full_disk_ends_the_rows_with_a_warning_and_not_the_training() -> None:
    def refuse(rows: UpdateRows) -> OSError | None:
        return OSError(errno.ENOSPC, "No space left on device", "row_losses.bin") if rows.step == 2 else None

    events = list(trainer(keep_rows=refuse).events())
    assert [event.step for event in of_kind(ev.Warned, events)] == [2]
    assert isinstance(events[-1], ev.Stopped) and len(losses(events)) == 8

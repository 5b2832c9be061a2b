"""Train a few updates as a script does, under the recorder, and return the target that the doctor examines."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from tui_lab.core.doctor.loop.recorder import LoopRecorder
from tui_lab.core.doctor.program.target import Target
from tui_lab.core.doctor.script.capture import Capture
from tui_lab.core.doctor.script.target import target_from_script, whole_model

LR = 0.01
UPDATES = 4


def examined(
    model: nn.Module,
    loss: Callable[[Any, int], Tensor],
    *,
    micro_batches: int = 1,
    divide: float = 1.0,
    schedule: Callable[[Any], Any] | None = None,
    set_lr: Callable[[int], float] | None = None,
) -> Target:
    """Train as a script does, and return the target."""
    capture = Capture(lambda: recorder.created_optimizers)
    with LoopRecorder(capture=capture) as recorder:
        optimizer = torch.optim.Adam(model.parameters(), lr=LR)
        scheduler = None if schedule is None else schedule(optimizer)
        for step in range(UPDATES):
            if set_lr is not None:
                optimizer.param_groups[0]["lr"] = set_lr(step)
            for i in range(micro_batches):
                (loss(model, step * micro_batches + i) / divide).backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            optimizer.step()
            optimizer.zero_grad()
            if scheduler is not None:
                scheduler.step()
    capture.close()
    whole = whole_model(capture, recorder.model)
    return target_from_script(capture, recorder.record(), whole, recorder.optimizers, trained=False)

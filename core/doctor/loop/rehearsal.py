"""A rehearsal: real updates of a copy on full batches, recorded, for a program whose own loop was not recorded."""

import time
import traceback
from dataclasses import replace
from typing import TYPE_CHECKING

from tui_lab.core.doctor.loop.reading import detached_backwards
from tui_lab.core.doctor.loop.record import LoopRecord
from tui_lab.core.doctor.loop.recorder import LoopRecorder

if TYPE_CHECKING:
    from tui_lab.core.doctor.program.target import Target

UPDATES = 50
MIN_UPDATES = 3
MAX_CPU_SECONDS = 1.5
MAX_SECONDS = 10.0
"""After this time no further update begins, unless fewer than MIN_UPDATES were made."""


def rehearse(target: "Target") -> LoopRecord:
    """Return the record of up to UPDATES calls of the target's update.

    It ends early when a scheduler refuses to go on, and after the first call if that does not use the model that it
    was given. Propagates what the update or the batch function raises.
    """
    trial = target.fresh()
    began = time.monotonic()
    cpu_began = time.process_time()
    notes: tuple[str, ...] = ()
    with LoopRecorder(model=trial.model, optimizers=trial.optimizers) as recorder:
        for step in range(UPDATES):
            is_late = time.process_time() - cpu_began > MAX_CPU_SECONDS or time.monotonic() - began > MAX_SECONDS
            if is_late and step >= MIN_UPDATES:
                break
            try:
                trial.apply_update(target.batch(step), target.seed + step)
            except ValueError as error:
                if step == 0 or not _is_end_of_schedule(error):
                    raise
                notes = (f"the rehearsal ended after {step} updates, at the end of the schedule",)
                break
            except RuntimeError:  # Of torch, for a loss without a graph.
                if not detached_backwards(recorder.record()):
                    raise
                notes = ("the update fails: its loss is detached from the model",)
                break
            if step == 0 and not recorder.has_called_model:
                notes = ("the update does not use the model that it is given",)
                break
    record = recorder.record()
    return replace(record, is_rehearsal=True, notes=(*record.notes, *notes))


def _is_end_of_schedule(error: ValueError) -> bool:
    """Return whether torch's scheduler raised the error, as OneCycleLR does after its last step."""
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and frames[-1].filename.endswith("lr_scheduler.py")

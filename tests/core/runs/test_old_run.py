"""A run folder recorded by the code before the rebuild of the foundation still opens, replays and resumes."""

import shutil
from pathlib import Path

import pytest
import torch

from tests.core.tiny import losses
from tui_lab.core import events as ev
from tui_lab.core.runs import catalog
from tui_lab.core.runs import open_run as opening
from tui_lab.core.runs.folder import Run
from tui_lab.core.training import checkpoint as ckpt

OLD_RUN = Path(__file__).parent / "old_run"
STEPS, STOPPED_AT = 60, 30

# The losses of steps 31 to 60 that the old code recorded when it resumed this folder.
LOSSES_OF_THE_OLD_CODE = [
    2.30387, 2.29338, 2.27655, 2.29701, 2.26749, 2.29102, 2.2641, 2.26766, 2.2795, 2.28624,
    2.27383, 2.27666, 2.29007, 2.28251, 2.27904, 2.25269, 2.28109, 2.25836, 2.27734, 2.25517,
    2.25049, 2.22169, 2.27847, 2.24789, 2.2766, 2.23937, 2.2581, 2.27553, 2.2955, 2.25578,
]  # fmt: skip


@pytest.fixture
def old_run(tmp_path: Path) -> Run:
    return Run(Path(shutil.copytree(OLD_RUN, tmp_path / "old")))


def resumed(copy: Path) -> ckpt.Weights:
    """The weights after resuming a copy of the old run to its last step."""
    shutil.copytree(OLD_RUN, copy)
    opened = opening.resume(str(copy), steps=None)
    try:
        for _ in opened.run.record(opened.trainer.events()):
            pass
    finally:
        opened.close()
    return ckpt.load(opened.run.latest()).model


def test_old_events_replay(old_run: Run) -> None:
    events = list(old_run.events())
    kinds = [event.kind for event in events if not isinstance(event, ev.StepDone)]
    assert kinds == [
        "started", "paused", "changed", "resumed", "evaluated", "saved", "paused", "changed", "saved", "stopped"
    ]  # fmt: skip
    assert [event.step for event in events if isinstance(event, ev.StepDone)] == list(range(1, STOPPED_AT + 1))
    assert old_run.downsampled().events() == events


def test_old_checkpoint_loads(old_run: Run) -> None:
    progress = ckpt.load(old_run.latest()).progress
    assert (progress.step, progress.tokens, progress.config.optim.lr) == (STOPPED_AT, 2640, 0.001)


def test_old_summary_and_catalog_row_read(old_run: Run) -> None:
    summary = old_run.summary()
    assert summary is not None and (summary.steps, summary.parameters) == (STOPPED_AT, 4826)
    [row] = catalog.find_runs(old_run.path)
    assert (row.state, row.problem) == ("stopped", "")
    assert (row.steps, row.val_loss, row.best_step) == (STOPPED_AT, summary.val_loss, 20)
    assert (row.metric_name, row.metric) == ("exact_match", 0.0)


def test_old_run_resumes_with_the_losses_of_the_old_code(tmp_path: Path) -> None:
    first, second = resumed(tmp_path / "first"), resumed(tmp_path / "second")
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
    events = list(Run(tmp_path / "first").events())
    assert losses(events)[STOPPED_AT:] == pytest.approx(LOSSES_OF_THE_OLD_CODE, rel=1e-4)
    assert isinstance(events[-1], ev.Stopped) and (events[-1].step, events[-1].reason) == (STEPS, "done")

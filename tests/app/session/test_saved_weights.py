"""Looks and prompts of the app at a run that another process trains, or that is replayed."""

from pathlib import Path

import pytest

from tests.core.recorded import recorded
from tests.core.tiny import trainer_and_run
from tui_lab.app.session.saved_weights import NO_CHECKPOINT, SavedWeights
from tui_lab.core import commands as cmd
from tui_lab.util.errors import RunError


def test_before_the_first_checkpoint_a_prompt_is_refused_and_a_look_is_dropped(tmp_path: Path) -> None:
    """Panes look at the model unasked; opening a run that has just begun must not warn."""
    weights = SavedWeights(recorded(tmp_path / "new"))
    looks: list[object] = []
    reasons: list[str] = []
    weights.answer(cmd.Inspect(looks.append, refuse=reasons.append))
    assert looks == [] and len(reasons) == 1
    with pytest.raises(RunError):
        weights.answer(cmd.Snapshot(lambda state, info: None))
    weights.answer(cmd.Snapshot(lambda state, info: None, refuse=reasons.append))
    assert reasons == [NO_CHECKPOINT] * 2

    training, run = trainer_and_run(tmp_path / "trained", "train.steps=1")
    for _ in run.record(training.events()):
        pass
    loaded: list[cmd.WeightsInfo] = []
    SavedWeights(run).answer(cmd.Inspect(looks.append, loaded.append))
    assert len(looks) == 1 and loaded == [cmd.WeightsInfo(1)]

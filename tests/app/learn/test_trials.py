"""The short runs of a stage."""

from pathlib import Path

from tui_lab.app.learn.trials import open_trial
from tui_lab.core.config import settings


def test_trial_records_its_curve_and_no_weights(tmp_path: Path) -> None:
    config = settings.load("reverse", ["train.steps=2", "train.eval_every=0", "train.eval_examples=8"])
    opened = open_trial("lr 0.1", config, tmp_path / "run")
    try:
        kinds = [event.kind for event in opened.run.record(opened.trainer.events())]
    finally:
        opened.close()
    assert kinds == ["started", "step", "step", "evaluated", "stopped"]
    assert not opened.run.has_checkpoint

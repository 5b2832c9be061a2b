"""A run that is stopped and resumed ends with the same weights; a step that is not finite changes none."""

from collections.abc import Iterator
from pathlib import Path

import torch

from tools.device.checks import PRECISIONS
from tools.device.setting import Row, Setting, is_true, trainer_of
from tui_lab.core import commands as cmd
from tui_lab.core import events as ev
from tui_lab.core.config.schema import Config
from tui_lab.core.runs import open_run
from tui_lab.core.runs.open_run import OpenRun
from tui_lab.core.training.checkpoint import Weights, copy_weights
from tui_lab.util.errors import TrainingError


def resume(setting: Setting) -> Iterator[Row]:
    """Bit-exact resume in each precision with dropout, for a small and a large vocabulary."""
    steps = setting.choose(12, 4)
    for preset in ("socrates", "pseudo-socrates"):
        for precision in PRECISIONS[:1] if setting.dry_run and preset != "socrates" else PRECISIONS:
            config = setting.config(
                preset,
                "model.dropout=0.1",
                f"train.precision={precision}",
                f"train.steps={steps}",
                "train.eval_every=0",
                "train.eval_examples=4",
            )
            folder = setting.folder / f"resume-{preset}-{precision}"
            whole = _weights_at_end(open_run.start("whole", config, folder / "whole"))
            again = _weights_at_end(_stopped_and_resumed(config, folder / "stopped", steps // 2))
            yield is_true(f"{preset}, {precision}: the same weights", _equal(whole, again))
    yield from _not_finite(setting)


def _weights_at_end(opened: OpenRun) -> Weights:
    *_, last = opened.run.record(opened.trainer.events())
    opened.close()
    if not isinstance(last, ev.Stopped):
        raise RuntimeError(f"the run ended with {last}")
    return copy_weights(opened.trainer.model.state_dict())


def _stopped_and_resumed(config: Config, folder: Path, at: int) -> OpenRun:
    opened = open_run.start("stopped", config, folder)
    done = 0
    for event in opened.run.record(opened.trainer.events()):
        done += isinstance(event, ev.StepDone)
        if done == at:
            opened.trainer.commands.put(cmd.Stop())
    opened.close()
    return open_run.resume(str(opened.run.path), None)


def _equal(a: Weights, b: Weights) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def _not_finite(setting: Setting) -> Iterator[Row]:
    """A loss that is not finite is an error, and the weights stay as they are."""
    trainer = trainer_of(setting.config("socrates", "train.precision=fp32"))
    trainer.train_step()
    with torch.no_grad():
        for parameter in trainer.model.parameters():
            parameter.view(-1)[0] = float("nan")
    before = copy_weights(trainer.model.state_dict())
    try:
        trainer.train_step()
        raised = False
    except TrainingError:
        raised = True
    after = copy_weights(trainer.model.state_dict())
    same = all(torch.equal(a.view(torch.int32), after[name].view(torch.int32)) for name, a in before.items())
    yield is_true("a loss that is not finite changes no weight", raised and same)

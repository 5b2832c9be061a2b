"""Updates compiled by torch.compile, on the GPU."""

from collections.abc import Iterator

from tools.device.checks import LOSS_ROUNDING
from tools.device.setting import Row, Setting, at_most, compiled_trainer, is_true, trainer_of
from tui_lab.core import events as ev
from tui_lab.core.training.trainer import Trainer

PLAIN = ("model.dropout=0", "train.eval_every=0", "train.eval_examples=4")


def compiled(setting: Setting) -> Iterator[Row]:
    """Losses near those without the compiler, and the same losses in a second run, bit for bit."""
    steps = setting.choose(20, 3)
    for precision in ("fp32", "bf16"):
        config = setting.config("reverse", *PLAIN, f"train.precision={precision}", f"train.steps={steps}")
        expected = _losses(trainer_of(config))
        losses = _losses(compiled_trainer(setting, config))
        if len(losses) != steps:
            yield is_true(f"compiled, {precision}: all steps", False, steps=len(losses))
            continue
        worst = max(abs(a - b) / abs(a) for a, b in zip(expected, losses, strict=True))
        yield at_most(f"compiled, {precision}: losses of {steps} steps", worst, LOSS_ROUNDING[precision])
        again = _losses(compiled_trainer(setting, config))
        yield is_true(f"compiled, {precision}: a second run is the same", again == losses)


def _losses(trainer: Trainer) -> list[float]:
    return [event.loss for event in trainer.events() if isinstance(event, ev.StepDone)]

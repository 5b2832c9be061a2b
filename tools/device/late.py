"""Losses that are read after the next update is queued, and float32 by TF32."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from tools.device.checks import LOSS_ROUNDING, PRECISIONS, difference
from tools.device.setting import Row, Setting, at_most, is_true, make_steps, trainer_of
from tui_lab.core import events as ev
from tui_lab.core.config.schema import Config
from tui_lab.core.kernels.precision import float32_products
from tui_lab.core.training.checkpoint import Weights, copy_weights
from tui_lab.core.training.late_reading import LateReading
from tui_lab.core.training.trainer import Trainer
from tui_lab.util.errors import TrainingError

SHORT = ("model.dropout=0.1", "optim.grad_clip=0.5", "train.batch_size=4", "train.eval_examples=4")
EXACT = 1e-5
"""The largest relative error of a float32 product, by its norm; TF32 rounds each factor by up to 5e-4."""


def _late(trainer: Trainer) -> LateReading:
    assert trainer.late is not None
    return trainer.late


def late_reading(setting: Setting) -> Iterator[Row]:
    """The same losses and weights, bit for bit, whether each loss is read at once or an update later."""
    steps = setting.choose(60, 3)
    for preset in ("reverse", "pseudo-socrates"):
        for precision in PRECISIONS[:1] if setting.dry_run else PRECISIONS:
            config = setting.config(preset, *SHORT, f"train.precision={precision}", f"train.steps={steps}")
            losses, weights = _trained(config, reads_late=False)
            late_losses, late_weights = _trained(config, reads_late=True)
            yield is_true(f"{preset}, {precision}: the same losses", losses == late_losses and len(losses) == steps)
            yield is_true(f"{preset}, {precision}: the same weights", _equal(weights, late_weights))
    yield from _not_finite(setting)


def _trained(config: Config, *, reads_late: bool) -> tuple[list[float], Weights]:
    trainer = trainer_of(config, reads_late=reads_late)
    losses = [event.loss for event in trainer.events() if isinstance(event, ev.StepDone)]
    return losses, copy_weights(trainer.model.state_dict())


def _equal(a: Weights, b: Weights) -> bool:
    """Compare bits, so that a NaN equals itself."""
    return all(torch.equal(value.view(torch.int32), b[name].view(torch.int32)) for name, value in a.items())


def _not_finite(setting: Setting) -> Iterator[Row]:
    """A loss that is not finite changes no weight, although the update after it is queued before it is read."""
    trainer = trainer_of(setting.config("reverse", *SHORT), reads_late=True)
    _late(trainer).run_updates(3)
    with torch.no_grad():
        next(trainer.model.parameters()).view(-1)[0] = float("nan")
    before = copy_weights(trainer.model.state_dict())
    try:
        _late(trainer).run_updates(2)
        raised = False
    except TrainingError:
        raised = True
    same = _equal(before, copy_weights(trainer.model.state_dict()))
    yield is_true("a loss that is not finite changes no weight", raised and same and trainer.step == 3)


def no_waiting(setting: Setting) -> Iterator[Row]:
    """No operation of an update waits for the device; how long it takes read late and at once; TF32."""
    for preset in ("reverse", "pseudo-socrates"):
        for precision in PRECISIONS[:1] if setting.dry_run else PRECISIONS:
            # From 3,072 tokens on, torch sorts them for the gradient of an embedding.
            config = setting.config(preset, *SHORT, "train.batch_size=32", f"train.precision={precision}")
            trainer = trainer_of(config, reads_late=True)
            _late(trainer).run_updates(3)
            problem = ""
            try:
                with _no_synchronization(setting):
                    # Every 50th update measures layers and dead units, too.
                    _late(trainer).run_updates(setting.choose(60, 2))
            except RuntimeError as error:
                problem = str(error)
            yield is_true(f"{preset}, {precision}: waits for nothing", not problem, error=problem)
    yield _seconds_saved(setting)
    yield from _tf32(setting)


@contextmanager
def _no_synchronization(setting: Setting) -> Iterator[None]:
    """Turn an operation that waits for the GPU into an error."""
    if setting.device != "cuda":
        yield
        return
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def _seconds_saved(setting: Setting) -> Row:
    """Milliseconds of a step of `reverse`, whose GPU time is short, as figures in the JSON file."""
    config = setting.config("reverse", "train.steps=1000000", "train.precision=auto")
    steps = setting.choose(200, 1)
    ms = {}
    for name, reads_late in (("late", True), ("at_once", False)):
        trainer = trainer_of(config, reads_late=reads_late)
        make_steps(trainer, setting.choose(20, 1))
        start = time.perf_counter()
        make_steps(trainer, steps)
        ms[name] = 1e3 * (time.perf_counter() - start) / steps
    return is_true("reverse: milliseconds a step, read late and at once", True, **ms)


def _tf32(setting: Setting) -> Iterator[Row]:
    """Products are exact for fp32 and rounded for tf32 where the GPU has it, and torch's setting is restored."""
    n = setting.choose(1024, 64)
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(n, n, generator=generator) for _ in range(2))
    expected = a.double() @ b.double()
    before = torch.get_float32_matmul_precision()
    errors = {}
    for precision in ("fp32", "tf32"):
        with float32_products(precision, setting.torch_device):
            errors[precision] = difference(a.to(setting.device) @ b.to(setting.device), expected)
    yield at_most("fp32: error of a product", errors["fp32"], EXACT)
    has_tf32 = setting.device == "cuda" and torch.cuda.get_device_capability() >= (8, 0)
    yield is_true("tf32: products are rounded where the GPU can", (errors["tf32"] > EXACT) == has_tf32, **errors)
    yield at_most("tf32: error of a product", errors["tf32"], 2e-3)
    yield is_true("torch's setting is restored", torch.get_float32_matmul_precision() == before)
    steps = setting.choose(10, 2)
    losses, _ = _trained(setting.config("reverse", f"train.steps={steps}", "train.precision=fp32"), reads_late=True)
    rounded, _ = _trained(setting.config("reverse", f"train.steps={steps}", "train.precision=tf32"), reads_late=True)
    worst = max(abs(x - y) / abs(x) for x, y in zip(losses, rounded, strict=True))
    yield at_most(f"tf32: losses of {steps} steps of reverse", worst, LOSS_ROUNDING["bf16"])

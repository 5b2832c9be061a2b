"""What each part gets, and what it returns."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from tui_lab.core.config import settings
from tui_lab.core.config.schema import Config
from tui_lab.core.training.compiled import with_compiled_loss
from tui_lab.core.training.setup import set_up
from tui_lab.core.training.task_factory import build_task
from tui_lab.core.training.trainer import Trainer

UNMEASURED = ("train.matmul=blas", "train.head_rows=512")
"""Kernels of the CPU, which nothing is gained from measuring here."""
TINY = (
    "model.d_model=16",
    "model.n_layers=1",
    "model.n_heads=2",
    "model.d_head=8",
    "model.d_ff=32",
    "train.batch_size=4",
    "train.eval_examples=4",
    *UNMEASURED,
)


@dataclass(frozen=True)
class Setting:
    """device: "cuda", or "cpu" in a dry run. dry_run: tiny models and few steps. folder: for temporary files."""

    device: str
    dry_run: bool
    folder: Path

    @property
    def torch_device(self) -> torch.device:
        return torch.device(self.device)

    def config(self, preset: str, *overrides: str, device: str = "") -> Config:
        """Return the config of `preset`, tiny in a dry run. device: by default that of this setting."""
        sizes = TINY if self.dry_run else UNMEASURED if device else ()
        vocabulary: tuple[str, ...] = ()
        if self.dry_run and preset != "reverse":
            sizes = (*sizes, "model.context=16")
        if self.dry_run and preset == "pseudo-socrates":
            # With all of GPT-2's 50,257 tokens the head would take nearly all of the time of a dry run.
            vocabulary = ("data.vocab=seen",)
        return settings.load(preset, [*vocabulary, *overrides, *sizes, f"train.device={device or self.device}"])

    def choose(self, full: int, tiny: int) -> int:
        """Return `full`, or `tiny` in a dry run."""
        return tiny if self.dry_run else full


@dataclass(frozen=True)
class Row:
    """One line of the result. table: "check", "speed" or "fact". ok: False if a requirement is not met.

    figures: for "check" `value` and, if there is one, `limit`; for "speed" see speed.py.
    """

    table: str
    name: str
    ok: bool = True
    figures: dict[str, Any] = field(default_factory=dict)


Part = Callable[[Setting], Iterator[Row]]


def at_most(name: str, value: float, limit: float) -> Row:
    """Return the row of a check that `value` is at most `limit`; a NaN is not."""
    return Row("check", name, value <= limit, {"value": value, "limit": limit})


def is_true(name: str, value: bool, **figures: Any) -> Row:
    return Row("check", name, value, {"value": value, **figures})


def trainer_of(config: Config, *, reads_late: bool | None = None) -> Trainer:
    return Trainer(set_up(config, build_task(config)), reads_late=reads_late)


def compiled_trainer(setting: Setting, config: Config) -> Trainer:
    """Return a trainer that compiles its updates. A dry run uses no compiler, which would take most of its time."""
    if not setting.dry_run:
        return trainer_of(settings.changed(config, "train.compile", True))
    trainer = trainer_of(config)
    trainer.hooks = with_compiled_loss(trainer.hooks, trainer.model, "eager")
    return trainer


def make_steps(trainer: Trainer, n: int) -> None:
    """Make `n` updates as a run on this device makes them."""
    if trainer.late is not None:
        trainer.late.run_updates(n)
        return
    for _ in range(n):
        trainer.train_step()

"""A run small enough to repeat hundreds of times: rows of three digits out of five."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

import torch

from tui_lab.core import events as ev
from tui_lab.core.config import settings
from tui_lab.core.config.schema import Config
from tui_lab.core.runs import folder as runs
from tui_lab.core.runs.folder import Run
from tui_lab.core.training.checkpoint import Checkpoint
from tui_lab.core.training.checkpointing import Save
from tui_lab.core.training.setup import set_up
from tui_lab.core.training.task_factory import build_task
from tui_lab.core.training.trainer import Trainer

E = TypeVar("E", bound=ev.Event)
TABLES = {
    "model": {"d_model": 8, "n_layers": 1, "n_heads": 2, "d_head": 4, "d_ff": 8, "context": 5},
    "data": {"task": "reverse", "tokenizer": "digits", "length": 3, "n_digits": 5},
    "optim": {"lr": 0.01},
    "train": {"steps": 8, "batch_size": 4, "eval_every": 0, "eval_examples": 8, "threads": 1, "device": "cpu"},
}


def tiny(*overrides: str) -> Config:
    return settings.build(TABLES, overrides)


def trainer(*overrides: str, resume: Checkpoint | None = None, save: Save | None = None, **extra: Any) -> Trainer:
    config = resume.progress.config if resume else tiny(*overrides)
    saved_step = resume.progress.step if resume else None
    return Trainer(set_up(config, build_task(config), resume), save=save, saved_step=saved_step, **extra)


def trainer_and_run(path: Path, *overrides: str) -> tuple[Trainer, Run]:
    """A trainer that saves into a new run folder at `path`."""
    config = tiny(*overrides)
    run = runs.create("tiny", config, build_task(config).tokenizer, path)
    return trainer(*overrides, save=run.save), run


def last_checkpoint(*overrides: str) -> Checkpoint:
    """The checkpoint at the end of a run."""
    checkpoints: list[Checkpoint] = []

    def keep(state: Checkpoint) -> str:
        checkpoints.append(state)
        return "kept"

    list(trainer(*overrides, save=keep).events())
    return checkpoints[-1]


def restate(path: Path, *without: str, **changes: Any) -> None:
    """Change the state.json of the checkpoint at `path`, and remove its checksum and the keys in `without`."""
    state = path / "state.json"
    values = json.loads(state.read_text("utf-8"))
    for key in ("crc32", *without):
        del values[key]
    state.write_text(json.dumps(values | changes), "utf-8")


def losses(events: Iterable[ev.Event]) -> list[float]:
    return [event.loss for event in events if isinstance(event, ev.StepDone)]


def of_kind(kind: type[E], events: Iterable[ev.Event]) -> list[E]:
    return [event for event in events if isinstance(event, kind)]


def same_weights(a: Trainer, b: Trainer) -> bool:
    ours, theirs = a.model.state_dict(), b.model.state_dict()
    return all(torch.equal(ours[name], theirs[name]) for name in ours)

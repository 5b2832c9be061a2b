"""Resuming is bit exact: the same losses and weights as without the interruption."""

from collections.abc import Iterable
from itertools import islice
from pathlib import Path

import pytest

from tests.core.tiny import losses, same_weights, trainer
from tui_lab.core import commands as cmd
from tui_lab.core import events as ev
from tui_lab.core.model import Linear
from tui_lab.core.runs.folder import Run
from tui_lab.core.training import checkpoint as ckpt
from tui_lab.core.training.trainer import Trainer

# 3 digits of 5 give 125 rows, so that an epoch of batches of 40 ends between steps 2 and 3.
EDGE = ("train.batch_size=40", "model.dropout=0.3")


def stopped_and_resumed(folder: Path, at: int, *overrides: str) -> tuple[list[float], Trainer]:
    """Losses and trainer of a run that was stopped after `at` steps and resumed from its checkpoint."""
    first = trainer(*overrides, save=Run(folder).save)
    events = first.events()
    before = list(islice(step_losses(events), at))
    first.commands.put(cmd.Stop())
    list(events)
    second = trainer(resume=ckpt.load(Run(folder).latest()))
    return before + losses(second.events()), second


def step_losses(events: Iterable[ev.Event]) -> Iterable[float]:
    return (event.loss for event in events if isinstance(event, ev.StepDone))


@pytest.mark.parametrize("name", ["sgd", "momentum", "adam", "adamw", "muon"])
def test_resume_is_bit_exact_for_every_optimizer_across_epochs(name: str, tmp_path: Path) -> None:
    uninterrupted = trainer(*EDGE, f"optim.name={name}", "optim.schedule=cosine", "optim.warmup_steps=2")
    expected = losses(uninterrupted.events())
    assert uninterrupted.loader.epoch_at(7) > uninterrupted.loader.epoch_at(3)
    resumed_losses, resumed = stopped_and_resumed(
        tmp_path, 4, *EDGE, f"optim.name={name}", "optim.schedule=cosine", "optim.warmup_steps=2"
    )
    assert resumed_losses == expected and same_weights(uninterrupted, resumed)


@pytest.mark.parametrize("at", [1, 2, 3, 7])
def test_resume_is_bit_exact_from_any_step(at: int, tmp_path: Path) -> None:
    uninterrupted = trainer(*EDGE)
    expected = losses(uninterrupted.events())
    resumed_losses, resumed = stopped_and_resumed(tmp_path, at, *EDGE)
    assert resumed_losses == expected and same_weights(uninterrupted, resumed)


CHANGES = (("optim.lr", 0.05), ("train.batch_size", 7), ("data.overfit", 3), ("model.dropout", 0.6))


def test_resume_keeps_live_changes(tmp_path: Path) -> None:
    def changed(training: Trainer, stop_at: int | None) -> list[float]:
        found = []
        for event in training.events():
            if isinstance(event, ev.StepDone):
                found.append(event.loss)
                if event.step <= len(CHANGES):
                    training.commands.put(cmd.Set(*CHANGES[event.step - 1]))
                if event.step == stop_at:
                    training.commands.put(cmd.Stop())
        return found

    uninterrupted = trainer(*EDGE)
    expected = changed(uninterrupted, None)
    first = trainer(*EDGE, save=Run(tmp_path).save)
    before = changed(first, 5)
    second = trainer(resume=ckpt.load(Run(tmp_path).latest()))
    assert before + losses(second.events()) == expected and same_weights(uninterrupted, second)


def test_resume_keeps_patience_and_the_best_weights(tmp_path: Path) -> None:
    overrides = ("optim.lr=100", "train.eval_every=1", "train.patience=3", "train.steps=50")
    uninterrupted = trainer(*overrides)
    expected = losses(uninterrupted.events())
    resumed_losses, resumed = stopped_and_resumed(tmp_path, len(expected) - 1, *overrides)
    assert resumed_losses == expected
    assert resumed.progress.best_step == uninterrupted.progress.best_step


def test_finished_run_stays_finished(tmp_path: Path) -> None:
    done = trainer(save=Run(tmp_path).save)
    list(done.events())
    again = list(trainer(resume=ckpt.load(Run(tmp_path).latest())).events())
    assert [event.kind for event in again] == ["started", "stopped"]


def test_resume_is_bit_exact_with_onednn(tmp_path: Path) -> None:
    onednn = ("model.d_model=64", "model.d_head=64", "model.d_ff=2048", "train.batch_size=60", "train.matmul=onednn")
    uninterrupted = trainer(*onednn)
    assert {module.engine for module in uninterrupted.model.modules() if isinstance(module, Linear)} == {"onednn"}
    expected = losses(uninterrupted.events())
    resumed_losses, resumed = stopped_and_resumed(tmp_path, 4, *onednn)
    assert resumed_losses == expected and same_weights(uninterrupted, resumed)

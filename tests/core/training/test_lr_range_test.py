"""The range test trains as the trainer does, only with other rates, and changes no run."""

import hashlib
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from tests.core.tiny import tiny, trainer_and_run
from tui_lab.core.config.schema import Config
from tui_lab.core.model import Transformer
from tui_lab.core.runs.unrecorded import read_source, set_up_source
from tui_lab.core.training.lr_range_test import RangeTest
from tui_lab.core.training.lr_suggestion import default_range
from tui_lab.core.training.range_points import rates_between
from tui_lab.core.training.setup import set_up
from tui_lab.core.training.task_factory import build_loader, build_task
from tui_lab.data.dataset import IGNORED


def losses_of_plain_loop(config: Config, rates: list[float]) -> list[float]:
    """Train with torch's Adam, step by step, and return the loss after each rate."""
    task = build_task(config)
    loader = build_loader(config, task)
    model = Transformer(config.model, task.tokenizer.n_vocab, seed=config.train.seed)
    optimizer = torch.optim.Adam(model.parameters(), betas=config.optim.betas)
    losses = []
    for step in range(len(rates) + 1):
        batch = loader.batch(step)
        x, y = torch.from_numpy(batch.x), torch.from_numpy(batch.y)
        loss = F.cross_entropy(model(x).flatten(0, 1), y.flatten(), ignore_index=IGNORED)
        losses.append(loss.item())
        if step == len(rates):
            break
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        for group in optimizer.param_groups:
            group["lr"] = rates[step]
        optimizer.step()
    return losses[1:]


def test_losses_are_those_of_a_plain_loop_after_each_rate() -> None:
    config = tiny("optim.schedule=cosine", "optim.warmup_steps=5", "train.steps=6")
    test = RangeTest(set_up(config, build_task(config)), 1e-4, 0.1, 12)
    points = list(test.run())
    assert [point.lr for point in points] == pytest.approx(rates_between(1e-4, 0.1, 12))
    assert [point.loss for point in points] == pytest.approx(losses_of_plain_loop(config, test.rates), rel=1e-4)
    assert test.diverged == ""


def test_divergence_ends_the_test() -> None:
    config = tiny("optim.name=sgd", "model.head_std=0.5")
    test = RangeTest(set_up(config, build_task(config)), *default_range(config.optim.name), 60)
    assert len(list(test.run())) < 60 and test.diverged


def file_hashes(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_a_run_starts_from_its_checkpoint_and_stays_as_it_is(tmp_path: Path) -> None:
    training, run = trainer_and_run(tmp_path / "run", "train.steps=5")
    list(run.record(training.events()))
    before = file_hashes(run.path)
    source = read_source(str(run.path))
    task = build_task(source.config)
    setup = set_up_source(source, task)
    assert setup.progress.step == 5
    ours, theirs = setup.model.state_dict(), training.model.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)

    batch = training.loader.batch(5)
    with torch.no_grad():
        x, y = torch.from_numpy(batch.x), torch.from_numpy(batch.y)
        expected = F.cross_entropy(training.model(x).flatten(0, 1), y.flatten(), ignore_index=IGNORED).item()
    test = RangeTest(setup, 1e-5, 1e-2, 10)
    assert len(list(test.run())) == 10
    assert test.start_loss == pytest.approx(expected, rel=1e-5)
    assert file_hashes(run.path) == before


def test_a_run_from_initial_weights_starts_at_step_0(tmp_path: Path) -> None:
    training, run = trainer_and_run(tmp_path / "run", "train.steps=3")
    list(run.record(training.events()))
    source = read_source(str(run.path), ["optim.name=adamw"], initial_weights=True)
    assert source.checkpoint is None and source.config.optim.name == "adamw"
    assert set_up_source(source, build_task(source.config)).progress.step == 0


def test_another_seed_has_other_batches_and_the_weights_of_the_checkpoint(tmp_path: Path) -> None:
    training, run = trainer_and_run(tmp_path / "run", "train.steps=3")
    list(run.record(training.events()))
    source = read_source(str(run.path))
    task = build_task(source.config)
    setups = [set_up_source(source.with_seed(seed), task) for seed in (0, 1)]
    first, second = (setup.model.state_dict() for setup in setups)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert [setup.loader.seed for setup in setups] == [0, 1]

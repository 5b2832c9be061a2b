"""Training with planted faults."""

import functools
import tomllib

import numpy as np
import pytest
import torch

from tests.core.tiny import losses, of_kind, tiny, trainer
from tui_lab.core import events as ev
from tui_lab.core.config import settings
from tui_lab.core.config.faults import FAULTS, NEED_DROPOUT
from tui_lab.core.model import Transformer
from tui_lab.core.training.model_factory import build_model
from tui_lab.core.training.task_factory import build_loader, build_task, change_loader
from tui_lab.util.errors import ConfigError


def with_fault(name: str, *overrides: str) -> tuple[str, ...]:
    return (f'faults=["{name}"]', *(["model.dropout=0.2"] if name in NEED_DROPOUT else []), *overrides)


@functools.cache
def events_without_faults(*overrides: str) -> list[ev.Event]:
    return list(trainer(*overrides, "train.batch_size=8").events())


@pytest.mark.parametrize("name", FAULTS)
def test_fault_changes_the_training(name: str) -> None:
    plain = events_without_faults(*with_fault(name)[1:])
    faulty = list(trainer(*with_fault(name), "train.batch_size=8").events())
    assert isinstance(faulty[-1], ev.Stopped | ev.Failed)
    [started] = of_kind(ev.Started, faulty)
    assert started.faults == (name,)
    val_losses = [[event.val_loss for event in of_kind(ev.Evaluated, events)] for events in (faulty, plain)]
    # Some faults show only in the evaluation.
    assert losses(faulty) != losses(plain) or val_losses[0] != val_losses[1]


def test_faults_are_a_setting_like_others() -> None:
    config = tiny('faults=["no_mask", "double_softmax"]')
    assert settings.build(tomllib.loads(settings.to_toml(config))) == config
    with pytest.raises(ConfigError, match="did you mean 'double_softmax'"):
        tiny('faults=["double_softmaxx"]')
    with pytest.raises(ConfigError, match="changes nothing without dropout"):
        tiny('faults=["dropout_in_eval"]')
    with pytest.raises(ConfigError, match="needs task 'reverse'"):
        settings.load("socrates", ['faults=["unmasked_targets"]'])


def test_loader_that_shuffles_at_every_step_is_deterministic() -> None:
    config = tiny('faults=["shuffle_every_step"]', "data.overfit=1")
    loader = build_loader(config, build_task(config))
    ids = [loader.batch(step).ids.tolist() for step in range(16)]
    assert ids == [loader.batch(step).ids.tolist() for step in range(16)] and len({i for [i] in ids}) > 8
    assert np.concatenate(ids).tolist() == loader.drawn_between(0, 15).tolist()
    changed = change_loader(loader, 4, settings.changed(config, "data.overfit", 3))
    assert len(changed.batch(4).ids) == 3 and changed.drawn_between(4, 5).max() > 3


def test_only_a_model_without_faults_is_the_plain_transformer() -> None:
    config = tiny()
    x = torch.tensor([[0, 1, 2, 3, 4]])
    plain = Transformer(config.model, 5, seed=config.train.seed)(x)
    assert torch.equal(build_model(config, 5)(x), plain)
    assert not torch.equal(build_model(tiny('faults=["no_mask"]'), 5)(x), plain)

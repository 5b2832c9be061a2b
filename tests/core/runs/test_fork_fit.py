"""A fork is refused, with the settings, where the weights of the checkpoint do not fit them."""

from pathlib import Path

import pytest

from tests.core.tiny import tiny, trainer_and_run
from tui_lab.core.runs import open_run
from tui_lab.core.runs.fork_fit import may_change_tokenizer, require_fit
from tui_lab.core.training.faults.model import MODEL_FAULTS
from tui_lab.util.errors import ConfigError, RunError


@pytest.mark.parametrize(
    ("overrides", "keys"),
    [
        (("model.n_layers=2",), ["model.n_layers"]),
        (("model.context=9", "model.d_ff=16"), ["model.d_ff", "model.context"]),
        (("model.n_heads=4", "model.d_head=2"), []),
        (("optim.name=adamw", "optim.lr=0.5", "train.batch_size=2", "train.steps=20", "model.dropout=0.1"), []),
        (("optim.name=momentum",), ["optim.name"]),
        (("optim.name=muon",), ["optim.name"]),
        (('faults=["wrong_vocab"]',), ["faults"]),
        (('faults=["missing_from_optimizer"]',), ["faults"]),
        (('faults=["no_mask"]',), []),
    ],
)
def test_settings_that_do_not_fit_the_weights_are_those_with_which_a_fork_fails(
    overrides: tuple[str, ...], keys: list[str], tmp_path: Path
) -> None:
    training, run = trainer_and_run(tmp_path / "run")
    for _ in run.record(training.events()):
        pass
    new = tiny(*overrides)
    if keys:
        with pytest.raises(ConfigError) as refused:
            require_fit(tiny(), new, step=8)
        assert [problem.key for problem in refused.value.problems] == keys
        with pytest.raises((ConfigError, RunError)):
            open_run.fork(str(run.path), new)
    else:
        require_fit(tiny(), new, step=8)
        open_run.fork(str(run.path), new).close()


def test_optimizer_without_a_state_is_replaced_by_any() -> None:
    require_fit(tiny(), tiny("optim.name=muon"), step=0)
    require_fit(tiny("optim.name=sgd"), tiny(), step=8)


def test_fork_with_another_tokenizer_is_refused_with_the_setting(tmp_path: Path) -> None:
    training, run = trainer_and_run(tmp_path / "run")
    for _ in run.record(training.events()):
        pass
    same_tokenizer = tiny("data.val_fraction=0.2", "data.length=2")
    assert may_change_tokenizer(tiny(), same_tokenizer)
    open_run.fork(str(run.path), same_tokenizer).close()
    with pytest.raises(ConfigError) as refused:
        open_run.fork(str(run.path), tiny("data.n_digits=4", "data.length=2"))
    assert [problem.key for problem in refused.value.problems] == ["data.n_digits"]


def test_faults_of_the_model_keep_its_weights_or_are_known_not_to(tmp_path: Path) -> None:
    training, run = trainer_and_run(tmp_path / "run", "model.n_layers=2", "model.dropout=0.1")
    for _ in run.record(training.events()):
        pass
    old = training.config
    for name in MODEL_FAULTS:
        new = old.model_copy(update={"faults": (name,)})
        try:
            require_fit(old, new, step=8)
        except ConfigError:
            continue
        open_run.fork(str(run.path), new).close()

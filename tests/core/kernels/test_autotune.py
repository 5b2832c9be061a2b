from typing import Any

import pytest
import torch

from tests.core.tiny import tiny
from tui_lab.core.config import settings
from tui_lab.core.config.schema import Config
from tui_lab.core.kernels import autotune, chunked_cross_entropy
from tui_lab.core.kernels.linear import Kernels
from tui_lab.core.runs import open_run
from tui_lab.util.cache import cache_folder
from tui_lab.util.errors import ConfigError

LARGE = ("model.d_model=32", "model.context=64", "train.batch_size=32", "train.threads=1")


def large(*overrides: str) -> Config:
    return settings.load("pseudo-socrates", (*LARGE, *overrides))


def no_measurement(config: Config, n_vocab: int) -> Kernels:
    raise AssertionError("measured again")


def test_what_was_measured_is_remembered_for_the_machine_and_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    found = autotune.kernels_for(large(), 5000)
    monkeypatch.setattr(autotune, "measure", no_measurement)
    assert autotune.kernels_for(large(), 5000) == found
    with pytest.raises(AssertionError, match="measured again"):
        autotune.kernels_for(large("train.batch_size=64"), 5000)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"k": 1}', '{"k": {"engine": "abacus"}}'])
def test_a_damaged_memory_is_measured_anew(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cache_folder().mkdir(parents=True)
    (cache_folder() / "kernels.json").write_text(text)
    monkeypatch.setattr(autotune, "measure", lambda config, n_vocab: Kernels("onednn", 77))
    assert autotune.kernels_for(large(), 5000) == Kernels("onednn", 77)
    monkeypatch.setattr(autotune, "measure", no_measurement)
    assert autotune.kernels_for(large(), 5000) == Kernels("onednn", 77)


def test_a_memory_that_cannot_be_written_is_no_obstacle(monkeypatch: pytest.MonkeyPatch) -> None:
    cache_folder().parent.mkdir(parents=True, exist_ok=True)
    cache_folder().write_text("a file where the folder should be")
    monkeypatch.setattr(autotune, "measure", lambda config, n_vocab: Kernels("onednn", 77))
    assert autotune.kernels_for(large(), 5000) == Kernels("onednn", 77)


def test_small_trainings_and_settled_ones_are_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autotune, "measure", no_measurement)
    assert autotune.kernels_for(tiny(), 5) == Kernels()
    assert autotune.kernels_for(large("train.matmul=onednn", "train.head_rows=96"), 5000) == Kernels("onednn", 96)


def test_where_onednn_is_asked_for_and_absent_the_message_says_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autotune, "onednn_available", lambda: False)
    with pytest.raises(ConfigError, match="available here: auto, blas"):
        autotune.kernels_for(large("train.matmul=onednn"), 5000)
    assert autotune.measure(large(), 5000).engine == "blas"


def test_a_run_writes_down_the_kernels_it_was_trained_with() -> None:
    opened = open_run.begin("tiny", tiny("train.steps=1"))
    written = opened.run.config().train
    assert (written.matmul, written.head_rows) == ("blas", 128)


def test_what_is_measured_is_a_whole_step_of_the_head(monkeypatch: pytest.MonkeyPatch) -> None:
    """A library that is asked for no gradient of h and none of the bias skips a third of the products."""
    asked: list[tuple[bool, ...]] = []
    real = chunked_cross_entropy.head_loss_sum

    def spy(h: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, *rest: Any) -> torch.Tensor:
        asked.append((h.requires_grad, weight.requires_grad, bias.requires_grad))
        return real(h, weight, bias, *rest)

    monkeypatch.setattr(autotune, "head_loss_sum", spy)
    autotune.measure(large(), 5000)
    assert set(asked) == {(True, True, True)}

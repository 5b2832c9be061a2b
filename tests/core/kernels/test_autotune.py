"""The choice of kernels: measured once, cached, and written into the config of a run."""

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
import torch
from filelock import FileLock

from tests.core.tiny import tiny
from tui_lab.core.config import settings
from tui_lab.core.config.schema import Config
from tui_lab.core.kernels import autotune, head_loss
from tui_lab.core.kernels.linear import Kernels
from tui_lab.core.runs import open_run
from tui_lab.util.cache import cache_folder
from tui_lab.util.errors import ConfigError

LARGE = ("model.d_model=32", "model.context=64", "train.batch_size=32", "train.threads=1", "train.precision=fp32")


def large(*overrides: str) -> Config:
    return settings.load("pseudo-socrates", (*LARGE, *overrides))


def no_measurement(config: Config, n_vocab: int) -> Kernels:
    raise AssertionError("measured again")


def test_measured_kernels_are_cached_per_machine_and_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    kernels = autotune.kernels_for(large(), 5000)
    monkeypatch.setattr(autotune, "measure", no_measurement)
    assert autotune.kernels_for(large(), 5000) == kernels
    with pytest.raises(AssertionError, match="measured again"):
        autotune.kernels_for(large("train.batch_size=64"), 5000)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"k": 1}', '{"k": {"engine": "abacus"}}'])
def test_damaged_cache_is_measured_again(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cache_folder().mkdir(parents=True)
    (cache_folder() / "kernels.json").write_text(text)
    monkeypatch.setattr(autotune, "measure", lambda config, n_vocab: Kernels("onednn", 77))
    assert autotune.kernels_for(large(), 5000) == Kernels("onednn", 77)
    monkeypatch.setattr(autotune, "measure", no_measurement)
    assert autotune.kernels_for(large(), 5000) == Kernels("onednn", 77)


def test_cache_that_cannot_be_written_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    cache_folder().parent.mkdir(parents=True, exist_ok=True)
    cache_folder().write_text("a file where the folder should be")
    monkeypatch.setattr(autotune, "measure", lambda config, n_vocab: Kernels("onednn", 77))
    assert autotune.kernels_for(large(), 5000) == Kernels("onednn", 77)


@pytest.mark.parametrize("key", ["another", "the same"])
def test_two_that_measure_at_once_take_turns_and_keep_both_results(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    waits = threading.Event()
    kernels = {"the same": Kernels("blas", 7), "another": Kernels("onednn", 77)}

    class NoticedLock(FileLock):
        def acquire(self, *args: Any, **kwargs: Any) -> Any:
            if threading.current_thread() is not threading.main_thread():
                waits.set()
            return super().acquire(*args, **kwargs)

    def measure_second() -> Kernels:
        assert "the same" in (cache_folder() / "kernels.json").read_text()  # The first has ended.
        return kernels["another"]

    def measure_first() -> Kernels:
        seconds.append(pool.submit(autotune.cached, key, measure_second if key == "another" else pytest.fail))
        assert waits.wait(timeout=60)
        return kernels["the same"]

    monkeypatch.setattr(autotune, "FileLock", NoticedLock)
    seconds: list[Future[Kernels]] = []
    with ThreadPoolExecutor(1) as pool:
        assert autotune.cached("the same", measure_first) == kernels["the same"]
    assert seconds[0].result() == kernels[key]
    for known in ("the same", key):
        assert autotune.cached(known, pytest.fail) == kernels[known]


def test_lock_that_does_not_become_free_is_not_waited_for_forever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autotune, "LONGEST_WAIT", 0.0)
    cache_folder().mkdir(parents=True)
    with FileLock(f"{cache_folder() / 'kernels.json'}.lock"):
        assert autotune.cached("key", lambda: Kernels("onednn", 77)) == Kernels("onednn", 77)


def test_small_models_and_set_kernels_are_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autotune, "measure", no_measurement)
    assert autotune.kernels_for(tiny(), 5) == Kernels()
    assert autotune.kernels_for(large("train.matmul=onednn", "train.head_rows=96"), 5000) == Kernels("onednn", 96)


def test_onednn_where_it_is_missing_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autotune, "onednn_available", lambda: False)
    with pytest.raises(ConfigError) as caught:
        autotune.kernels_for(large("train.matmul=onednn"), 5000)
    assert (caught.value.code, caught.value.problems[0].key) == ("unavailable", "train.matmul")
    assert autotune.measure(large(), 5000).engine == "blas"


def test_config_of_a_run_has_the_kernels_it_was_trained_with() -> None:
    opened = open_run.start("tiny", tiny("train.steps=1", "train.precision=auto"))
    written = opened.run.trainer_config().train
    assert (written.matmul, written.head_rows, written.precision) == ("blas", 128, "fp32")


@pytest.mark.parametrize(("bf16_seconds", "expected"), [(0.8, "bf16"), (0.95, "fp32"), (3.0, "fp32")])
@pytest.mark.parametrize("n_vocab", [57, 5000])
def test_auto_precision_is_bfloat16_only_where_it_is_clearly_faster(
    n_vocab: int, bf16_seconds: float, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def seconds(self: object, kernels: Kernels) -> float:
        return bf16_seconds if kernels.precision == "bf16" else 1.0

    monkeypatch.setattr(autotune, "onednn_has_bf16", lambda: True)
    monkeypatch.setattr(autotune._Head, "seconds", seconds)
    monkeypatch.setattr(autotune._Product, "seconds", seconds)
    config = autotune.with_kernels(large("train.precision=auto", "model.d_ff=512"), n_vocab)
    assert config.train.precision == expected
    assert autotune.with_kernels(large("model.d_ff=512"), n_vocab).train.precision == "fp32"


@pytest.mark.parametrize("n_vocab", [57, 5000])
def test_bfloat16_is_not_measured_on_a_processor_without_it(n_vocab: int, monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[str] = []

    def seconds(self: object, kernels: Kernels) -> float:
        measured.append(kernels.precision)
        return 1.0

    monkeypatch.setattr(autotune, "onednn_has_bf16", lambda: False)
    monkeypatch.setattr(autotune._Head, "seconds", seconds)
    monkeypatch.setattr(autotune._Product, "seconds", seconds)
    assert autotune.kernels_for(large("train.precision=auto", "model.d_ff=512"), n_vocab).precision == "fp32"
    assert set(measured) == {"fp32"}
    monkeypatch.setattr(autotune, "measure", no_measurement)
    assert autotune.kernels_for(large("train.precision=bf16", "model.d_ff=512"), n_vocab).precision == "bf16"


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_set_precision_is_kept(precision: str) -> None:
    assert autotune.kernels_for(large(f"train.precision={precision}"), 5000).precision == precision


def test_measurement_includes_all_gradients_of_the_head(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the gradients of h and the bias, a third of the products would be skipped."""
    asked: list[tuple[bool, ...]] = []
    real = head_loss.head_loss_sum

    def spy(h: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, *rest: Any) -> torch.Tensor:
        asked.append((h.requires_grad, weight.requires_grad, bias.requires_grad))
        return real(h, weight, bias, *rest)

    monkeypatch.setattr(autotune, "head_loss_sum", spy)
    autotune.measure(large(), 5000)
    assert set(asked) == {(True, True, True)}

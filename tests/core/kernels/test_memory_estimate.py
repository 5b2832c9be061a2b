"""A run too large for the memory is an error before anything is allocated, with the setting to reduce."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.core.tiny import of_kind, tiny, trainer
from tui_lab.core import commands as cmd
from tui_lab.core import events as ev
from tui_lab.core.config import settings
from tui_lab.core.config.schema import Config
from tui_lab.core.kernels import memory_estimate
from tui_lab.core.kernels.parameter_count import count_parameters
from tui_lab.core.runs import open_run
from tui_lab.core.training.model_factory import build_model
from tui_lab.core.training.step_metrics import StepMetrics
from tui_lab.util.errors import ConfigError, TrainingError

HUGE = ("model.d_model=65536", "model.n_layers=16", "model.d_ff=524288", "model.n_heads=64", "model.d_head=1024")


def test_model_of_a_trillion_parameters_is_an_error_before_it_is_built() -> None:
    config = settings.load("socrates", HUGE)
    assert count_parameters(config.model, 50_257) > 10**12
    with pytest.raises(ConfigError, match=r"TiB .*W_[12].*model\.d_ff") as caught:
        build_model(config, 50_257)
    assert caught.value.code == "too_large"


@pytest.mark.parametrize(
    ("overrides", "largest", "setting"),
    [
        (("model.d_ff=1000",), "parameters", "model.d_ff"),
        (("train.batch_size=100",), "activations", "train.batch_size"),
        (
            (
                "model.n_heads=64",
                "model.dropout=0.1",
                "train.batch_size=100",
                "model.d_head=1",
                "model.context=60",
                "data.length=30",
            ),
            "attention weights",
            "model.context",
        ),
    ],
)
def test_largest_part_names_the_setting_that_reduces_it(overrides: tuple[str, ...], largest: str, setting: str) -> None:
    first = memory_estimate.parts(tiny(*overrides), 5)[0]
    assert largest in first.name and setting in first.shrink


def test_estimated_weights_are_those_of_the_model() -> None:
    config = tiny("optim.name=adam")
    [weights] = [part for part in memory_estimate.parts(config, 5) if "parameters" in part.name]
    count = sum(p.numel() for p in build_model(config, 5).parameters())
    assert weights.bytes == 4 * 4 * count and f"{count:,} parameters" in weights.name


def test_live_change_that_does_not_fit_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    running = trainer()
    monkeypatch.setattr(memory_estimate, "machine_bytes", lambda: 1000)
    [warned] = running.change(cmd.Set("train.batch_size", 8))
    assert isinstance(warned, ev.Warned)
    assert running.config.train.batch_size == 4


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried …"), True),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_failed_allocations_are_recognized(error: Exception, expected: bool) -> None:
    assert memory_estimate.is_out_of_memory(error) == expected


def test_failed_allocation_of_torch_is_recognized() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60)
    assert memory_estimate.is_out_of_memory(caught.value)


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes")])
def test_memory_that_runs_out_in_a_step_fails_the_run_with_the_weights_saved(error: Exception) -> None:
    saved: list[Any] = []
    running = trainer(save=lambda checkpoint: saved.append(checkpoint) or "there")  # type: ignore[func-returns-value]
    events = running.events()
    emitted = [next(events) for _ in range(4)]

    def step() -> StepMetrics:
        raise error

    running.train_step = step  # type: ignore[method-assign]
    emitted += list(events)
    assert isinstance(emitted[-1], ev.Failed) and emitted[-1].step == 3
    assert "557 parameters" in emitted[-1].message and "a smaller model." in emitted[-1].message
    assert of_kind(ev.Saved, emitted)[-1].step == 3 and saved[-1].progress.step == 3


def test_no_memory_for_the_last_checkpoint_is_a_warning_before_the_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any) -> None:
        raise MemoryError

    running = trainer(save=lambda checkpoint: "there")
    events = running.events()
    next(events)
    monkeypatch.setattr(running, "train_step", fail)
    monkeypatch.setattr("tui_lab.core.training.checkpoint.copy_weights", fail)
    assert [event.kind for event in events] == ["warned", "failed"]


def test_memory_that_runs_out_while_a_run_is_opened_is_a_training_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(config: Config, n_vocab: int) -> None:
        raise MemoryError

    monkeypatch.setattr("tui_lab.core.training.setup.build_model", fail)
    with pytest.raises(TrainingError):
        open_run.start("tiny", tiny(), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_memory_limit_of_a_container_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(memory_estimate, "_CGROUP", limit)
    limit.write_text("1048576\n")
    assert memory_estimate.machine_bytes() == 2**20
    limit.write_text("max\n")
    assert memory_estimate.machine_bytes() > 2**20


@pytest.mark.parametrize(("n", "text"), [(0, "0 B"), (1536, "1.5 KiB"), (2**40, "1.0 TiB"), (200 * 2**20, "200 MiB")])
def test_sizes_have_units(n: int, text: str) -> None:
    assert memory_estimate.size(n) == text

"""train.precision = tf32: how a GPU multiplies float32 during a run."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from tests.core.tiny import losses, same_weights, tiny, trainer
from tui_lab.core.kernels.autotune import with_kernels
from tui_lab.core.kernels.precision import float32_products
from tui_lab.core.runs import open_run

CUDA = torch.device("cuda")


@pytest.fixture(autouse=True)
def torch_as_it_was() -> Iterator[None]:
    yield
    torch.set_float32_matmul_precision("highest")


@pytest.mark.parametrize("before", ["highest", "high"])
@pytest.mark.parametrize(("precision", "inside"), [("fp32", "highest"), ("tf32", "high"), ("bf16", None)])
def test_choice_holds_inside_on_a_gpu_and_is_undone(precision: str, inside: str | None, before: str) -> None:
    torch.set_float32_matmul_precision(before)
    with pytest.raises(ZeroDivisionError), float32_products(precision, CUDA):
        assert torch.get_float32_matmul_precision() == (inside or before)
        raise ZeroDivisionError
    assert torch.get_float32_matmul_precision() == before


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16", "fp16"])
def test_other_devices_are_left_alone(precision: str) -> None:
    torch.set_float32_matmul_precision("high")
    with float32_products(precision, torch.device("cpu")):
        assert torch.get_float32_matmul_precision() == "high"


def test_setting_of_torch_by_its_newer_name_is_understood() -> None:
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    with float32_products("fp32", CUDA):
        assert torch.backends.cuda.matmul.fp32_precision == "ieee"
    assert torch.backends.cuda.matmul.fp32_precision == "tf32"


def test_run_on_the_cpu_is_that_of_float32_and_its_config_keeps_the_choice() -> None:
    exact, rounded = trainer(), trainer("train.precision=tf32")
    assert losses(exact.events()) == losses(rounded.events()) and same_weights(exact, rounded)
    assert with_kernels(tiny("train.precision=tf32"), 5).train.precision == "tf32"
    opened = open_run.start("tiny", tiny("train.steps=1", "train.precision=tf32"))
    assert opened.run.trainer_config().train.precision == "tf32"


def test_choice_is_in_force_from_the_first_update_to_the_last_evaluation(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    @contextmanager
    def recorded(precision: str, device: torch.device) -> Iterator[None]:
        seen.append(f"{precision} begins")
        yield
        seen.append("ends")

    monkeypatch.setattr("tui_lab.core.training.trainer.float32_products", recorded)
    events = trainer("train.precision=tf32", "train.steps=1").events()
    for event in events:
        seen.append(event.kind)
    assert seen == ["started", "tf32 begins", "step", "evaluated", "stopped", "ends"]

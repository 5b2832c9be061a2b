"""The checks run in ordinary modes, also while the script is within others."""

import contextlib

import pytest
import torch
from torch import Tensor, nn

from tui_lab.core.doctor.script.ordinary_modes import ordinary_modes


class CastsItself(nn.Module):
    """A model that enters autocast itself, as those of accelerate do."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            output: Tensor = self.layer(x)
        return output


def bfloat16() -> contextlib.AbstractContextManager[object]:
    return torch.autocast("cpu", torch.bfloat16)


@pytest.mark.parametrize("mode", [contextlib.nullcontext, bfloat16, torch.inference_mode, torch.no_grad])
def test_changed_weights_change_the_output_of_a_model_that_casts_them(
    mode: "type[contextlib.AbstractContextManager[object]]",
) -> None:
    model, x = CastsItself(), torch.ones(2, 4)
    with mode():
        model(x)
        with ordinary_modes():
            assert model.layer(x).dtype == torch.float32 and model(x).dtype == torch.bfloat16
            assert model(x).requires_grad
            with torch.no_grad():
                model.layer.weight.zero_()
            assert not model(x).any()


def test_modes_of_the_script_are_restored() -> None:
    layer, x = nn.Linear(4, 4), torch.ones(2, 4)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        with ordinary_modes():
            pass
        output = layer(x)
        assert output.dtype == torch.bfloat16 and not output.requires_grad
    assert layer(x).dtype == torch.float32

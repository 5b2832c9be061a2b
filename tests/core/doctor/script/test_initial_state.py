"""The state that a script's modules had before the training is given back to them."""

import torch
from torch import Tensor, nn

from tui_lab.core.doctor.script.capture import InitialState

T = 4


class Positions(nn.Module):
    """Adds angles that the first call computes, as a library of rotary embeddings does, and counts its calls."""

    angles: Tensor
    n_calls: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.register_buffer("n_calls", torch.zeros(()))
        self.register_buffer("angles", torch.zeros(T), persistent=False)
        self.n_filled = 0

    def forward(self, x: Tensor) -> Tensor:
        self.n_calls += 1
        if self.n_filled < T:
            self.angles.copy_(torch.arange(T))
            self.n_filled = T
        return x + self.scale * self.angles


def test_weights_and_buffers_of_a_checkpoint_are_restored_but_no_cache() -> None:
    model = Positions()
    parent = nn.Sequential(model)
    state = InitialState()
    state.keep(parent)
    x = torch.zeros(T)
    first = parent(x)
    with torch.no_grad():
        model.scale.fill_(2)
    assert state.restore() == []
    assert model.scale.item() == 1 and float(model.n_calls) == 0
    assert torch.equal(parent(x), first)

"""The logit lens against the same computation written out in float64, and on models of other people's making."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.core.inside import plain
from tests.core.inside.models import Gpt, T, V, external, transformer
from tui_lab.core.inside.lens import logit_lens
from tui_lab.core.inside.results import LogitLens

X = np.array([3, 1, 4, 1, 5, 9])
Y = np.array([-1, 4, 1, 5, 9, 2])


def lens_of(model: nn.Module) -> LogitLens:
    lens = logit_lens(model, X, Y, k=4)
    assert isinstance(lens, LogitLens), lens
    return lens


def test_lens_of_our_model_is_the_head_on_every_layers_output() -> None:
    model = transformer()
    w = plain.float64(model.state_dict())
    passed = plain.run(w, X.tolist(), n_heads=3)
    lens = lens_of(model)
    assert lens.places == ("embedding", "layers.0", "layers.1") and lens.read_out == "head"
    for place, stream in enumerate(passed.streams):
        p = plain.probabilities(w, stream)
        order = np.argsort(-p, axis=1)
        np.testing.assert_array_equal(lens.top[place], order[:, :4])
        np.testing.assert_allclose(lens.probabilities[place], np.take_along_axis(p, order[:, :4], 1), rtol=1e-4)
        for t, target in enumerate(Y.tolist()):
            if target == -1:
                assert math.isnan(lens.losses[place, t]) and lens.ranks[place, t] == 0
                assert math.isnan(lens.target_probabilities[place, t])
            else:
                assert lens.losses[place, t] == pytest.approx(-math.log(p[t, target]), rel=1e-4)
                assert lens.target_probabilities[place, t] == pytest.approx(p[t, target], rel=1e-4)
                assert lens.ranks[place, t] == 1 + order[t].tolist().index(target)


@pytest.mark.parametrize(("tied", "read_out"), [(False, "ln_f, lm_head"), (True, "ln_f, wte.weight as the head")])
def test_lens_of_a_pre_ln_model_is_its_final_norm_and_its_head(tied: bool, read_out: str) -> None:
    gpt = Gpt(tied=tied)
    lens = lens_of(external(gpt))
    assert lens.places == ("embedding", "h.0", "h.1") and lens.read_out == read_out
    x = gpt.wte(torch.tensor(X)) + gpt.wpe(torch.arange(T))
    for place in range(3):
        if place:
            x = gpt.h[place - 1](x[None])[0][0]
        normed = F.layer_norm(x, x.shape[-1:], gpt.ln_f.weight, gpt.ln_f.bias)
        head = gpt.wte.weight if gpt.lm_head is None else gpt.lm_head.weight
        p = (normed @ head.T).softmax(dim=-1).detach().numpy()
        np.testing.assert_allclose(lens.target_probabilities[place, 1:], p[np.arange(1, T), Y[1:]], rtol=1e-4)


def test_long_rows_are_read_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    model = transformer()
    whole = lens_of(model)
    monkeypatch.setattr("tui_lab.core.inside.lens.MOST_LOGITS", 4 * V)
    parts = lens_of(model)
    np.testing.assert_array_equal(parts.top, whole.top)
    np.testing.assert_allclose(parts.losses, whole.losses, rtol=1e-5)


class Scaled(Gpt):
    """A model that divides its logits, without a module for it."""

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return super().forward(ids) / 3.0


class NoLayers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.wte = nn.Embedding(V, 8)
        self.head = nn.Linear(8, V)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.wte(ids))
        return logits


@pytest.mark.parametrize("model", [Scaled(), NoLayers()], ids=["logits are scaled", "no layers"])
def test_lens_that_would_not_be_the_models_own_is_refused(model: nn.Module) -> None:
    assert isinstance(logit_lens(external(model), X, Y), str)


def test_looking_leaves_no_hook_and_changes_no_weight() -> None:
    model = transformer()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    lens_of(model)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())

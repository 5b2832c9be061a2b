"""Ablations against the same computation written out in float64, and on a model where one head alone matters."""

import numpy as np
import pytest
import torch
from torch import nn

from tests.core.inside import plain
from tests.core.inside.models import Block, FlatBlock, Gpt, OpenBlock, V, external, transformer
from tests.core.inside.plain import Array
from tests.core.tiny import tiny
from tui_lab.core.commands import Replacement
from tui_lab.core.inside.ablation import ablate
from tui_lab.core.inside.results import Ablation
from tui_lab.core.user_code.external_model import ExternalModel

X = np.array([[3, 1, 4, 1, 5, 9], [2, 6, 5, 3, 5, 8], [9, 7, 9, 3, 2, 3]])
Y = np.array([[-1, 4, 1, 5, 9, 2], [6, 5, 3, 5, 8, -1], [-1, -1, 3, 2, 3, 8]])
N_HEADS = 3
Part = tuple[int, str, int]


def outputs_of(w: dict[str, Array], part: Part) -> Array:
    """The outputs of a part at all positions of all rows, [R·T, …]."""
    layer, name, head = part
    rows = [plain.run(w, x, N_HEADS) for x in X.tolist()]
    by_part = {"head": lambda row: row.heads[layer, head], "attention": lambda row: row.attention[layer]}
    by_part["feed_forward"] = lambda row: row.feed_forward[layer]
    return np.concatenate([by_part[name](row) for row in rows])


def losses_without(w: dict[str, Array], part: Part, how: Replacement) -> tuple[float, float]:
    """The mean loss of the first row, and that of the targets of the others, without a part."""
    mean = outputs_of(w, part).mean(axis=0)

    def change(other: Part, output: Array) -> Array:
        if other != part:
            return output
        return np.zeros_like(output) if how == "zero" else np.broadcast_to(mean, output.shape)

    sums = [plain.summed_loss(w, plain.run(w, x, N_HEADS, change).streams[-1], y) for x, y in zip(X, Y, strict=True)]
    return sums[0][0] / sums[0][1], (sums[1][0] + sums[2][0]) / (sums[1][1] + sums[2][1])


@pytest.mark.parametrize("how", ["zero", "mean"])
def test_ablations_of_our_model(how: Replacement) -> None:
    model = transformer()
    w = plain.float64(model.state_dict())
    measured = ablate(model, X, Y, how)
    assert isinstance(measured, Ablation) and measured.n_others == 2
    for layer in range(2):
        for head in range(N_HEADS):
            example, others = losses_without(w, (layer, "head", head), how)
            assert measured.example.heads[layer, head] == pytest.approx(example, rel=1e-4)
            assert measured.others.heads[layer, head] == pytest.approx(others, rel=1e-4)
        for name in ("attention", "feed_forward"):
            example, others = losses_without(w, (layer, name, 0), how)
            assert getattr(measured.example, name)[layer] == pytest.approx(example, rel=1e-4)
            assert getattr(measured.others, name)[layer] == pytest.approx(others, rel=1e-4)
    whole = [plain.summed_loss(w, plain.run(w, x, N_HEADS).streams[-1], y) for x, y in zip(X, Y, strict=True)]
    assert measured.example.base == pytest.approx(whole[0][0] / whole[0][1], rel=1e-5)


def test_only_the_head_that_matters_changes_the_loss() -> None:
    model = transformer()
    with torch.no_grad():
        for layer, head in ((0, 0), (0, 1), (0, 2), (1, 0), (1, 2)):
            weight = model.get_parameter(f"layers.{layer}.attention.W_O.weight")
            weight[:, 5 * head : 5 * (head + 1)] = 0.0
    measured = ablate(model, X, Y)
    assert isinstance(measured, Ablation)
    changes = measured.example.heads - measured.example.base
    assert abs(changes[1, 1]) > 0.01
    changes[1, 1] = 0.0
    np.testing.assert_array_equal(changes, 0.0)
    assert measured.example.attention[1] == measured.example.heads[1, 1]


def test_example_without_targets_has_no_loss() -> None:
    measured = ablate(transformer(), X[:1], np.full((1, 6), -1))
    assert isinstance(measured, Ablation)
    assert np.isnan(measured.example.base) and np.isnan(measured.example.heads).all() and measured.n_others == 0


def test_ablation_of_a_pre_ln_model_leaves_its_residual_stream() -> None:
    gpt = Gpt()
    model = external(gpt)
    measured = ablate(model, X, Y)
    assert isinstance(measured, Ablation) and measured.example.heads.shape == (2, 2)
    with torch.no_grad():
        gpt.h[0].attn.c_proj.weight.zero_()  # type: ignore[union-attr,operator]
        gpt.h[0].attn.c_proj.bias.zero_()  # type: ignore[union-attr,operator]
    without = ablate(model, X, Y)
    assert isinstance(without, Ablation)
    assert without.example.base == pytest.approx(float(measured.example.attention[0]), rel=1e-5)


@pytest.mark.parametrize(("kind", "mlp"), [(OpenBlock, "modules_of_mlp"), (FlatBlock, "mlp")])
def test_feed_forward_is_found_however_the_layer_calls_it(kind: type[Block], mlp: str) -> None:
    usual, other = Gpt(), Gpt()
    other.h = nn.ModuleList(kind(8, 2) for _ in range(2))  # type: ignore[call-arg]
    expected = ablate(external(usual), X, Y, "mean")
    renamed = {name.replace(".mlp.", f".{mlp}."): tensor for name, tensor in usual.state_dict().items()}
    other.load_state_dict(renamed)
    measured = ablate(ExternalModel(other, tiny().model, V).eval(), X, Y, "mean")
    assert isinstance(expected, Ablation) and isinstance(measured, Ablation)
    np.testing.assert_allclose(measured.example.feed_forward, expected.example.feed_forward, rtol=1e-6)
    np.testing.assert_allclose(measured.example.heads, expected.example.heads, rtol=1e-6)


def test_model_that_does_not_add_its_parts_as_they_are_is_refused() -> None:
    assert isinstance(ablate(external(Gpt(scaled=True)), X, Y), str)

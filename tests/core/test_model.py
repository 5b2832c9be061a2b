"""The transformer against a slow transcription of the appendix and against torch's own encoder layer."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tui_lab.core import model as model_module
from tui_lab.core.config.schema import ModelConfig
from tui_lab.core.model import Attention, Transformer, set_dropout

Floats = npt.NDArray[np.float64]

shapes = st.builds(
    ModelConfig,
    d_model=st.integers(1, 9),
    n_layers=st.integers(1, 3),
    n_heads=st.integers(1, 3),
    d_head=st.integers(1, 5),
    d_ff=st.integers(1, 9),
    context=st.integers(2, 7),
)


def randomized(config: ModelConfig, n_vocab: int = 11) -> Transformer:
    """A model in double precision with nothing at a value that could hide a missing bias or scale."""
    model = Transformer(config, n_vocab).double().eval()
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.2, 0.7, generator=generator)
    return model


def layer_norm(row: Floats, scale: Floats, shift: Floats) -> Floats:
    normal: Floats = (row - row.mean()) / np.sqrt(((row - row.mean()) ** 2).mean() + 1e-5)
    return normal * scale + shift


def appendix_logits(model: Transformer, ids: list[int]) -> Floats:
    """The appendix, position by position and head by head, with no library but numpy. [T, V]"""
    w = {name: value.detach().numpy() for name, value in model.state_dict().items()}
    heads, v = model.config.n_heads, model.config.d_head
    rows: list[Floats] = [w["W_E.weight"][token] + w["W_P.weight"][t] for t, token in enumerate(ids)]
    for k in range(model.config.n_layers):
        layer = {n.removeprefix(f"layers.{k}."): value for n, value in w.items() if n.startswith(f"layers.{k}.")}
        after: list[Floats] = []
        for t, e in enumerate(rows):
            outputs: list[Floats] = []
            for h in range(heads):
                part = slice(h * v, (h + 1) * v)
                q = layer["attention.W_Q.weight"][part] @ e
                scores = [q @ (layer["attention.W_K.weight"][part] @ rows[s]) / math.sqrt(v) for s in range(t + 1)]
                exps = np.exp(np.array(scores) - max(scores))
                share = exps / exps.sum()
                values = [layer["attention.W_V.weight"][part] @ rows[s] for s in range(t + 1)]
                outputs.append(np.sum([a * value for a, value in zip(share, values, strict=True)], axis=0))
            attended = layer["attention.W_O.weight"] @ np.concatenate(outputs)
            l11 = layer_norm(e + attended, layer["norm1.weight"], layer["norm1.bias"])
            hidden = np.maximum(0.0, layer["W_1.weight"] @ l11 + layer["W_1.bias"])
            l12 = layer["W_2.weight"] @ hidden + layer["W_2.bias"]
            after.append(layer_norm(l11 + l12, layer["norm2.weight"], layer["norm2.bias"]))
        rows = after
    return np.array([w["head.weight"] @ row + w["head.bias"] for row in rows])


@given(shapes, st.data())
@settings(deadline=None, max_examples=25)
def test_logits_equal_the_appendix_for_any_shape(config: ModelConfig, data: st.DataObject) -> None:
    model = randomized(config)
    ids = data.draw(st.lists(st.integers(0, 10), min_size=1, max_size=config.context))
    logits = model(torch.tensor([ids]))[0].detach().numpy()
    np.testing.assert_allclose(logits, appendix_logits(model, ids), rtol=1e-9, atol=1e-9)


def torch_encoder(model: Transformer) -> nn.TransformerEncoder:
    """torch's post-LN encoder with this model's weights."""
    config = model.config
    layer = nn.TransformerEncoderLayer(
        config.d_model, config.n_heads, config.d_ff, dropout=0.0, batch_first=True, norm_first=False, bias=True
    )
    encoder = nn.TransformerEncoder(layer, config.n_layers, enable_nested_tensor=False).double().eval()
    for theirs, ours in zip(encoder.layers, model.layers, strict=True):
        o: Any = ours
        projections = [o.attention.W_Q.weight, o.attention.W_K.weight, o.attention.W_V.weight]
        zeros: dict[str, Tensor] = {
            "self_attn.in_proj_bias": torch.zeros(3 * config.d_model),
            "self_attn.out_proj.bias": torch.zeros(config.d_model),
        }
        theirs.load_state_dict(
            zeros
            | {
                "self_attn.in_proj_weight": torch.cat(projections),
                "self_attn.out_proj.weight": o.attention.W_O.weight,
                "linear1.weight": o.W_1.weight,
                "linear1.bias": o.W_1.bias,
                "linear2.weight": o.W_2.weight,
                "linear2.bias": o.W_2.bias,
                "norm1.weight": o.norm1.weight,
                "norm1.bias": o.norm1.bias,
                "norm2.weight": o.norm2.weight,
                "norm2.bias": o.norm2.bias,
            }
        )
    return encoder


def test_layers_equal_torchs_encoder_forward_and_backward() -> None:
    config = ModelConfig(d_model=12, n_layers=2, n_heads=3, d_head=4, d_ff=20, context=9)
    model, ids = randomized(config), torch.arange(18).view(2, 9) % 11
    encoder = torch_encoder(model)
    embedded = (model.W_E(ids) + model.W_P(torch.arange(9))).detach()
    mask = nn.Transformer.generate_square_subsequent_mask(9, dtype=torch.float64)
    theirs, ours = encoder(embedded, mask=mask, is_causal=True), model.hidden(ids)
    torch.testing.assert_close(ours, theirs)
    weighting = torch.linspace(-1, 1, ours.numel(), dtype=torch.float64).view_as(ours)
    (ours * weighting).sum().backward()  # type: ignore[no-untyped-call]
    (theirs * weighting).sum().backward()
    first: Any = model.layers[0]
    their_first: Any = encoder.layers[0]
    torch.testing.assert_close(first.W_1.weight.grad, their_first.linear1.weight.grad)
    torch.testing.assert_close(first.attention.W_Q.weight.grad, their_first.self_attn.in_proj_weight.grad[:12])


@given(shapes, st.data())
@settings(deadline=None, max_examples=25)
def test_position_never_sees_a_later_token(config: ModelConfig, data: st.DataObject) -> None:
    model = randomized(config)
    ids = torch.tensor(data.draw(st.lists(st.integers(0, 10), min_size=2, max_size=config.context)))
    t = data.draw(st.integers(1, len(ids) - 1))
    other = ids.clone()
    other[t:] = (other[t:] + 1) % 11
    before, after = model(ids[None])[0], model(other[None])[0]
    assert torch.equal(before[:t], after[:t])
    # A width of one or two can normalize any difference away.
    assert config.d_model < 4 or not torch.equal(before[t], after[t])


@pytest.mark.parametrize("rate", [0.0, 0.5, 1.0])
def test_dropout_of_any_rate_gives_finite_loss_and_gradients(rate: float) -> None:
    model = Transformer(ModelConfig(d_model=8, d_head=2, d_ff=16, context=6, dropout=rate), 11).train()
    logits = model(torch.arange(6)[None])
    logits.logsumexp(-1).sum().backward()
    assert logits.isfinite().all()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_dropout_is_on_embeddings_attention_and_both_sublayers_only_while_training() -> None:
    model = Transformer(ModelConfig(d_model=8, d_head=2, d_ff=16, context=6), 11)
    ids = torch.arange(6)[None]
    plain = model.eval()(ids)
    set_dropout(model, 1.0)
    assert torch.equal(model(ids), plain)
    outputs: list[Tensor] = []
    for module in model.modules():
        if isinstance(module, nn.Dropout | nn.LayerNorm):
            module.register_forward_hook(lambda module, inputs, output: outputs.append(output))
    model.train()(ids)
    # With every branch dropped the residual is the embedding, which is zero, so each LayerNorm gives its bias: zero.
    assert len(outputs) == 1 + 5 * model.config.n_layers and not any(output.any() for output in outputs)


def test_dropout_follows_the_seed_of_torch() -> None:
    model = Transformer(ModelConfig(d_model=8, d_head=2, d_ff=16, context=6, dropout=0.5), 11).train()
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drawn.append(model(torch.arange(6)[None]))
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])


@pytest.mark.parametrize("fused", [False, True])
def test_attention_dropout_keeps_scaled_weights(fused: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """With one-hot values the output is the weights after dropout; the fused kernel is the one that a GPU uses."""
    if fused:
        monkeypatch.setattr(model_module, "FUSED_DROPOUT_DEVICES", ("cpu",))
    attention = Transformer(ModelConfig(d_model=8, d_head=32, context=32, dropout=0.25), 11).layers[0].attention
    assert isinstance(attention, Attention)
    q, k = torch.randn(2, 2, 4, 32, 32, generator=torch.Generator().manual_seed(0))
    v = torch.eye(32).expand(2, 4, 32, 32)
    weights = attention.weights(q, k)
    torch.testing.assert_close(attention.eval().attend(q, k, v, cached=False), weights)
    torch.manual_seed(0)
    dropped = attention.train().attend(q, k, v, cached=False)
    kept = dropped != 0
    assert abs(1 - kept.sum() / (weights > 0).sum() - 0.25) < 0.05
    torch.testing.assert_close(dropped[kept], weights[kept] / 0.75)
    torch.manual_seed(0)
    explicit = attention.dropout(weights) @ v
    assert torch.equal(dropped, explicit) != fused


def test_set_dropout_reaches_every_kind_of_dropout() -> None:
    model = nn.Sequential(nn.Dropout(0.1), nn.Dropout2d(0.1), nn.AlphaDropout(0.1), nn.MultiheadAttention(4, 2, 0.1))
    set_dropout(model, 0.7)
    assert [getattr(module, "dropout", None) or module.p for module in model] == [0.7] * 4


def test_hooked_attention_weights_are_causal_sum_to_one_and_leave_the_logits() -> None:
    model = randomized(ModelConfig(d_model=10, n_layers=2, n_heads=3, d_head=4, d_ff=7, context=5))
    ids = torch.tensor([[1, 2, 3, 4], [4, 3, 2, 1]])
    logits = model(ids)
    weights: list[Tensor] = []
    for module in model.attention_modules():
        module.register_forward_hook(lambda module, inputs, output: weights.append(output))
    torch.testing.assert_close(model(ids), logits)
    assert len(weights) == 2
    for layer in weights:
        assert layer.shape == (2, 3, 4, 4)
        torch.testing.assert_close(layer.sum(-1), torch.ones(2, 3, 4, dtype=torch.float64))
        assert not layer.triu(1).any()


def test_state_dict_has_parameters_only() -> None:
    model = Transformer(ModelConfig(n_layers=1), 11)
    assert list(model.state_dict()) == [name for name, _ in model.named_parameters()]


def test_more_positions_than_the_context_are_an_error() -> None:
    model = Transformer(ModelConfig(context=4), 11)
    with pytest.raises(ValueError, match="5 positions exceed the context of 4"):
        model(torch.zeros(1, 5, dtype=torch.int64))


def test_weights_are_a_function_of_the_seed() -> None:
    one, same, other = (Transformer(ModelConfig(), 11, seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["layers.0.W_1.weight"], other["layers.0.W_1.weight"])

"""The captured attention weights equal those that a model computes, whatever it computes them with."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.core.tiny import trainer
from tui_lab.core.inference.attention import AttentionMaps
from tui_lab.core.inference.example import attention_maps
from tui_lab.core.watch.answers import attention_capture
from tui_lab.core.watch.answers.attention_capture import capture_attention

B, T, D, H, L, V = 3, 6, 8, 2, 2, 11


def ids() -> Tensor:
    return torch.arange(B * T).reshape(B, T) % V


def captured(call: Callable[[], object], **options: Any) -> AttentionMaps:
    maps = capture_attention(call, **options)
    assert isinstance(maps, AttentionMaps), maps
    return maps


class SelfAttention(nn.Module):
    """As nanoGPT's: flash, or a softmax of masked scores."""

    def __init__(self, flash: bool, softmax: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.qkv = nn.Linear(D, 3 * D)
        self.dropout = nn.Dropout(0.5)
        self.flash = flash
        self.softmax = softmax

    def forward(self, x: Tensor) -> Tensor:
        B, T, _ = x.shape
        q, k, v = (part.view(B, T, H, D // H).transpose(1, 2) for part in self.qkv(x).split(D, dim=2))
        if self.flash:
            y = F.scaled_dot_product_attention(q, k, v, dropout_p=0.5 if self.training else 0.0, is_causal=True)
        else:
            scores = q @ k.transpose(-2, -1) / math.sqrt(k.size(-1))
            scores = scores.masked_fill(torch.ones(T, T).tril() == 0, -math.inf)
            y = self.dropout(self.softmax(scores)) @ v
        attended: Tensor = y.transpose(1, 2).reshape(B, T, D)
        return attended


class Head(nn.Module):
    """As in ng-video-lecture: one head, a module."""

    def __init__(self) -> None:
        super().__init__()
        self.key = nn.Linear(D, D // H, bias=False)
        self.query = nn.Linear(D, D // H, bias=False)
        self.value = nn.Linear(D, D // H, bias=False)
        self.softmax = nn.Softmax(dim=-1)

    def forward(self, x: Tensor) -> Tensor:
        scores = self.query(x) @ self.key(x).transpose(-2, -1) * (D // H) ** -0.5
        scores = scores.masked_fill(torch.ones(x.shape[1], x.shape[1]).tril() == 0, -math.inf)
        weights: Tensor = self.softmax(scores)
        attended: Tensor = weights @ self.value(x)
        return attended


class Heads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.heads = nn.ModuleList(Head() for _ in range(H))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([head(x) for head in self.heads], dim=-1)


class Decoder(nn.Module):
    """Residual layers of attention, and the logits."""

    def __init__(self, layer: Callable[[], nn.Module]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(V, D)
        self.layers = nn.ModuleList(layer() for _ in range(L))
        self.norms = nn.ModuleList(nn.LayerNorm(D) for _ in range(L))
        self.head = nn.Linear(D, V)

    def forward(self, x: Tensor) -> Tensor:
        e = self.embedding(x)
        for norm, layer in zip(self.norms, self.layers, strict=True):
            e = e + layer(norm(e))
        logits: Tensor = self.head(e)
        return logits


SOFTMAXES: dict[str, Callable[[Tensor], Tensor]] = {
    "F.softmax": lambda scores: F.softmax(scores, dim=-1),
    "torch.softmax": lambda scores: torch.softmax(input=scores, dim=3),
    "Tensor.softmax": lambda scores: scores.softmax(-1),
    "nn.Softmax": nn.Softmax(-1),
    "float32": lambda scores: F.softmax(scores, dim=-1, dtype=torch.float32),
}


class TestModels:
    def test_maps_of_the_built_in_transformer(self) -> None:
        training = trainer("model.n_layers=2")
        training.model.eval()
        x = training.loader.batch(0).x
        for row in range(len(x)):
            expected = attention_maps(training.model, x[row])
            maps = captured(lambda: training.model(torch.from_numpy(x)), row=row)
            assert expected is not None and (maps.length, maps.block) == (expected.length, expected.block)
            np.testing.assert_allclose(maps.weights, expected.weights, atol=1e-6)
            assert not maps.weights.flags.writeable

    @pytest.mark.parametrize("name", SOFTMAXES)
    def test_softmax_and_flash_give_the_same_maps(self, name: str) -> None:
        plain = Decoder(lambda: SelfAttention(False, SOFTMAXES[name])).eval()
        flash = Decoder(lambda: SelfAttention(True, SOFTMAXES[name])).eval()
        flash.load_state_dict(plain.state_dict())
        for row in range(B):
            maps = captured(lambda: plain(ids()), row=row).weights
            assert maps.shape == (L, H, T, T) and not np.triu(maps, 1).any()
            np.testing.assert_allclose(maps.sum(-1), 1.0, rtol=1e-5)
            np.testing.assert_allclose(maps, captured(lambda: flash(ids()), row=row).weights, atol=1e-6)

    def test_heads_that_are_modules_are_grouped_by_layer(self) -> None:
        model = Decoder(Heads).eval()
        maps = captured(lambda: model(ids()), row=1)
        assert maps.weights.shape == (L, H, T, T)
        x = model.norms[0](model.embedding(ids()))
        head: Any = model.get_submodule("layers.0.heads.1")
        scores = head.query(x) @ head.key(x).transpose(-2, -1) * 0.5
        expected = scores.masked_fill(torch.ones(T, T).tril() == 0, -math.inf).softmax(-1)[1]
        np.testing.assert_allclose(maps.weights[0, 1], expected.detach(), atol=1e-6)

    def test_layers_with_a_single_head_stay_apart(self) -> None:
        weight = torch.randn(D, D, generator=torch.Generator().manual_seed(0))

        class Functional(nn.Module):
            def forward(self, x: Tensor) -> Tensor:
                for _ in range(3):
                    x = (x @ weight @ x.transpose(1, 2)).softmax(-1) @ x
                return x

        assert captured(lambda: Functional()(torch.ones(B, T, D))).weights.shape == (3, 1, T, T)

    @pytest.mark.parametrize("batch_first", [True, False])
    @pytest.mark.parametrize("norm_first", [True, False])
    @pytest.mark.filterwarnings("ignore:enable_nested_tensor")
    def test_transformer_encoder_of_torch(self, batch_first: bool, norm_first: bool) -> None:
        torch.manual_seed(0)
        layer = nn.TransformerEncoderLayer(D, H, 16, batch_first=batch_first, norm_first=norm_first)
        encoder = nn.TransformerEncoder(layer, L).eval()
        x = torch.randn(B, T, D)
        padding = torch.zeros(B, T)
        padding[1, -2:] = -math.inf
        mask = nn.Transformer.generate_square_subsequent_mask(T)
        batch = x if batch_first else x.transpose(0, 1)
        first: Any = encoder.layers[0]
        query = first.norm1(batch) if norm_first else batch
        arguments = {"attn_mask": mask, "key_padding_mask": padding, "average_attn_weights": False}
        _, expected = first.self_attn(query, query, query, **arguments)
        for row in range(B):
            maps = captured(lambda: encoder(batch, mask, padding), row=row)
            assert maps.weights.shape == (L, H, T, T)
            np.testing.assert_allclose(maps.weights[0], expected[row].detach(), atol=1e-6)
        assert captured(lambda: encoder(batch)).sees_later

    def test_gpt2_of_transformers(self) -> None:
        transformers = pytest.importorskip("transformers")
        config = transformers.GPT2Config(
            vocab_size=V, n_positions=T, n_embd=D, n_layer=L, n_head=H, attn_implementation="eager"
        )
        torch.manual_seed(0)
        model = transformers.GPT2LMHeadModel(config).eval()
        expected = [each[1].detach() for each in model(input_ids=ids(), output_attentions=True).attentions]
        for implementation in ("eager", "sdpa"):
            model.config._attn_implementation = implementation
            maps = captured(lambda: model(input_ids=ids()), row=1)
            np.testing.assert_allclose(maps.weights, torch.stack(expected), atol=1e-6)

    def test_compiled_model(self) -> None:
        model = Decoder(lambda: SelfAttention(True, SOFTMAXES["F.softmax"])).eval()
        expected = captured(lambda: model(ids())).weights
        compiled = torch.compile(model, backend="eager")
        compiled(ids())
        assert (captured(lambda: compiled(ids())).weights == expected).all()


class TestScaledDotProduct:
    """Against softmax(q kᵀ · scale + mask), through the values: their product with the maps is the result."""

    q = torch.randn(B, 4, T, D, generator=torch.Generator().manual_seed(1))
    k = torch.randn(B, 4, T, D, generator=torch.Generator().manual_seed(2))
    v = torch.randn(B, 4, T, D, generator=torch.Generator().manual_seed(3))
    square = torch.ones(T, T).tril().bool()

    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"is_causal": True},
            {"scale": 0.3},
            {"attn_mask": square},
            {"attn_mask": torch.zeros(T, T).masked_fill(~square, -math.inf)},
            {"attn_mask": torch.randn(B, 1, T, T, generator=torch.Generator().manual_seed(4))},
            {"attn_mask": torch.randn(B, 4, T, T, generator=torch.Generator().manual_seed(5)) > 0},
            {"attn_mask": torch.ones(B, 1, 1, T).bool(), "scale": 2.0},
        ],
    )
    @pytest.mark.parametrize("max_chunk", [1, 2 * T, 2**22])
    def test_options(self, options: dict[str, Any], max_chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(attention_capture, "MAX_CHUNK", max_chunk)
        results = []
        maps = captured(
            lambda: results.append(F.scaled_dot_product_attention(self.q, self.k, self.v, **options)), row=1
        )
        product = torch.from_numpy(maps.weights[0].copy()) @ self.v[1]
        torch.testing.assert_close(product, results[0][1].nan_to_num(0.0), atol=1e-5, rtol=1e-4)

    def test_grouped_queries(self) -> None:
        results = []
        k, v = self.k[:, :2], self.v[:, :2]
        maps = captured(lambda: results.append(F.scaled_dot_product_attention(self.q, k, v, enable_gqa=True)), row=2)
        product = torch.from_numpy(maps.weights[0].copy()) @ v[2].repeat_interleave(2, dim=0)
        torch.testing.assert_close(product, results[0][2], atol=1e-5, rtol=1e-4)

    def test_batch_and_heads_in_one_dimension(self) -> None:
        q, k, v = (each.flatten(0, 1) for each in (self.q, self.k, self.v))
        expected = captured(lambda: F.scaled_dot_product_attention(self.q, self.k, self.v), row=1)
        maps = captured(lambda: F.scaled_dot_product_attention(q, k, v), row=1, batch_size=B)
        np.testing.assert_allclose(maps.weights, expected.weights, atol=1e-6)

    def test_bfloat16(self) -> None:
        q, k, v = (each.bfloat16() for each in (self.q, self.k, self.v))
        maps = captured(lambda: F.scaled_dot_product_attention(q, k, v))
        np.testing.assert_allclose(maps.weights.sum(-1), 1.0, rtol=1e-5)


class TestLimits:
    @pytest.mark.parametrize("flash", [True, False])
    @pytest.mark.parametrize("max_weights", [1, 4, 16, 40, 100, 143])
    def test_large_maps_are_in_blocks_of_their_largest_weights(self, flash: bool, max_weights: int) -> None:
        model = Decoder(lambda: SelfAttention(flash, SOFTMAXES["F.softmax"])).eval()
        full = captured(lambda: model(ids())).weights
        maps = captured(lambda: model(ids()), max_weights=max_weights)
        n = math.ceil(T / maps.block)
        assert maps.block > 1 and maps.weights.shape == (L, H, n, n)
        assert maps.weights.size <= max_weights or n == 1
        padded = np.pad(full, [(0, 0), (0, 0), (0, n * maps.block - T), (0, n * maps.block - T)])
        blocks = padded.reshape(L, H, n, maps.block, n, maps.block).max((3, 5))
        np.testing.assert_allclose(maps.weights, blocks, atol=1e-6)

    def test_result_and_random_numbers_stay_the_same(self) -> None:
        model = Decoder(lambda: SelfAttention(False, SOFTMAXES["F.softmax"])).train()
        state = torch.get_rng_state()
        expected = model(ids()).detach()
        torch.set_rng_state(state)
        results: list[Tensor] = []
        captured(lambda: results.append(model(ids())))
        assert torch.equal(results[0], expected) and torch.equal(torch.get_rng_state(), state)
        assert not results[0].requires_grad and torch.is_grad_enabled()
        assert not nn.modules.module._global_forward_pre_hooks and not nn.modules.module._global_forward_hooks

    def test_weights_of_experts_are_not_attention(self) -> None:
        class Experts(SelfAttention):
            def forward(self, x: Tensor) -> Tensor:
                x[..., :T].softmax(dim=-1)
                return super().forward(x)

        model = Decoder(lambda: Experts(True, SOFTMAXES["F.softmax"])).eval()
        assert captured(lambda: model(ids())).weights.shape == (L, H, T, T)

    def test_map_does_not_change_with_the_tensor_of_the_script(self) -> None:
        def call() -> None:
            torch.zeros(1, 1, 2, 2).softmax(-1).zero_()

        assert (captured(call).weights == 0.5).all()


class TestNoMaps:
    @pytest.mark.parametrize(
        "call",
        [
            lambda: nn.Linear(D, V)(torch.ones(B, T, D)).softmax(-1),
            lambda: torch.ones(B, T).softmax(-1),
            lambda: torch.ones(B, H, T, T).softmax(1),
            lambda: F.scaled_dot_product_attention(torch.ones(1, T, D), torch.ones(1, 9, D), torch.ones(1, 9, D)),
            lambda: 1 / 0,
            lambda: None,
        ],
    )
    def test_reason_is_a_sentence(self, call: Callable[[], object]) -> None:
        assert isinstance(capture_attention(call), str)

    def test_row_that_is_not_in_the_batch(self) -> None:
        model = Decoder(lambda: SelfAttention(True, SOFTMAXES["F.softmax"])).eval()
        assert isinstance(capture_attention(lambda: model(ids()), row=B), str)

    def test_layers_with_different_numbers_of_heads(self) -> None:
        def call() -> None:
            for heads in (2, 4):
                torch.ones(1, heads, T, T).softmax(-1)

        assert isinstance(capture_attention(call), str)

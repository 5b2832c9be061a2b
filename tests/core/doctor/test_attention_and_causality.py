"""Attention and causality of user models: which cause is named for which mistake."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from tests.core.doctor.checks.programs import any_target, pairs_case
from tests.core.doctor.small_transformer import Attention, C, Decoder, T, V, batch, target_of
from tui_lab.core.doctor.checks.model import attention, causality
from tui_lab.core.doctor.findings import Finding, NotJudged
from tui_lab.core.doctor.measures.attention_recorder import record_attention
from tui_lab.core.doctor.program.target import Target


def findings(target: Target) -> list[Finding]:
    """Return what both checks yield, without what an earlier finding explains."""
    both = [*attention.check(target), *causality.check(target)]
    explained = {code for finding in both if finding.kind == "finding" for code in finding.explains}
    return [finding for finding in both if finding.code not in explained]


@pytest.mark.parametrize("fault", ["", "rotary", "no_positions", "positions_of_zero"])
def test_decoder_without_such_a_mistake_has_no_findings(fault: str) -> None:
    assert findings(target_of(fault)) == []


@pytest.mark.parametrize(
    ("fault", "code", "word"),
    [
        ("mask_after_softmax", "mask_after_softmax", "after the softmax"),
        ("softmax_over_queries", "attention_rows", "queries"),
        ("softmax_over_heads", "attention_rows", "heads"),
        ("multiplied", "score_scale", "multiplied"),
        ("no_mask", "causal_leak", "no causal mask"),
        ("late_mask", "causal_leak", "off by one"),
        ("inverted_mask", "causal_leak", "upside down"),
        ("no_mask_in_training", "causal_leak", "in training mode only"),
        ("no_mask_in_evaluation", "causal_leak", "in evaluation mode only"),
        ("heads_merged", "heads_mixed", "merged"),
        ("heads_split", "heads_mixed", "split"),
        ("norm_over_positions", "norm_axis", "positions"),
        ("batch_norm", "norm_axis", "rows of the batch"),
        ("mean_over_row", "causal_leak", "mean"),
        ("view_for_transpose", "batch_mixing", "reshape"),
    ],
)
def test_mistake_is_the_first_finding(fault: str, code: str, word: str) -> None:
    first = findings(target_of(fault))[0]
    assert (first.kind, first.code) == ("finding", code) and word in first.title
    assert "small_transformer.py:" in first.location or code in ("batch_mixing", "norm_axis")


def test_missing_division_by_the_root_is_a_finding_in_own_code_only() -> None:
    [finding] = findings(target_of("unscaled"))
    assert (finding.kind, finding.code) == ("finding", "score_scale")
    compensated = Decoder("unscaled")
    for module in compensated.modules():
        if isinstance(module, Attention):
            with torch.no_grad():
                module.qkv.weight[:C] /= math.sqrt(C / 4)
                module.qkv.bias[:C] /= math.sqrt(C / 4)
    assert findings(target_of(compensated)) == []


class Torch(nn.Module):
    """torch's own encoder layer with a causal mask; the layout of its input may be wrong."""

    def __init__(self, batch_first: bool, causal: bool = True) -> None:
        super().__init__()
        self.causal = causal
        self.tokens, self.places = nn.Embedding(V, C), nn.Parameter(torch.randn(T, C))
        self.layer = nn.TransformerEncoderLayer(C, 4, 64, 0.0, batch_first=batch_first)
        self.head = nn.Linear(C, V)

    def forward(self, ids: Tensor) -> Tensor:
        e = self.tokens(ids) + self.places[: ids.shape[1]]
        n = ids.shape[1] if self.layer.self_attn.batch_first else ids.shape[0]
        mask = nn.Transformer.generate_square_subsequent_mask(n) if self.causal else None
        logits: Tensor = self.head(self.layer(e, src_mask=mask))
        return logits


def test_recurrent_layer_over_the_rows_lacks_batch_first() -> None:
    class Recurrent(nn.Module):
        def __init__(self, *, batch_first: bool) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.tokens = nn.Embedding(23, 16)
            self.rnn = nn.LSTM(16, 16, batch_first=batch_first)
            self.head = nn.Linear(16, 23)

        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = self.head(self.rnn(self.tokens(x))[0])
            return logits

    assert list(causality.check(pairs_case(Recurrent(batch_first=True)))) == []
    finding = next(causality.check(pairs_case(Recurrent(batch_first=False))))
    assert finding.code == "batch_mixing" and "batch_first" in finding.fix and "rnn" in finding.evidence
    assert "test_attention_and_causality.py:" in finding.location


def test_multihead_attention_over_the_rows_is_batch_mixing() -> None:
    assert findings(target_of(Torch(batch_first=True))) == []
    [finding] = findings(target_of(Torch(batch_first=False)))
    assert finding.code == "batch_mixing" and "batch_first" in finding.fix


def test_model_that_takes_positions_first_is_recognized() -> None:
    class PositionsFirst(Decoder):
        def forward(self, ids: Tensor) -> Tensor:
            return super().forward(ids.t()).transpose(0, 1)

    [finding] = findings(target_of(PositionsFirst()))
    assert finding.code == "batch_mixing" and "[T, B]" in finding.title


def masked_words(step: int) -> tuple[Tensor, Tensor]:
    """The targets are the words that were replaced by token 0."""
    y = batch(step)[0].clamp(min=1)
    hidden = torch.rand(y.shape, generator=torch.Generator().manual_seed(step)) < 0.3
    return y.masked_fill(hidden, 0), y.masked_fill(~hidden, -100)


def test_bidirectional_model_without_next_tokens_is_not_judged() -> None:
    target = target_of(Torch(batch_first=True, causal=False), batches=masked_words, rule=None)
    with pytest.raises(NotJudged):
        list(causality.check(target))
    next_tokens = target_of(Torch(batch_first=True, causal=False))
    assert [finding.code for finding in causality.check(next_tokens)] == ["causal_leak"]


def test_prefix_without_targets_may_look_ahead() -> None:
    class Prefix(Decoder):
        """Sees the whole first half from everywhere."""

        def forward(self, ids: Tensor) -> Tensor:
            n = ids.shape[1] // 2
            logits: Tensor = super().forward(ids) + self.head(self.tokens(ids)[:, :n].mean(dim=1, keepdim=True))
            return logits

    def prompted(step: int) -> tuple[Tensor, Tensor]:
        x, y = batch(step)
        y = y.clone()
        y[:, : T // 2] = -100
        return x, y

    assert findings(target_of(Prefix(), batches=prompted)) == []
    assert findings(target_of(Prefix()))[0].code == "causal_leak"


@pytest.mark.parametrize(
    ("scores", "scale"),
    [
        (lambda q, k: q @ k.transpose(-2, -1) / 2, 0.5),
        (lambda q, k: (q / 2) @ k.transpose(-2, -1), 0.5),
        (lambda q, k: torch.einsum("bid,bjd->bij", q * 0.5, k), 0.5),
        (lambda q, k: torch.einsum("...id,...jd->...ij", q, k).mul_(0.5), 0.5),
        (lambda q, k: torch.baddbmm(torch.zeros(1), q, k.transpose(1, 2), beta=0, alpha=0.5), 0.5),
        (lambda q, k: (q * 0.5).view(2, 5, 2, 2).flatten(2) @ (k.transpose(1, 2) * 3), 1.5),
        (lambda q, k: q @ k.mT, 1.0),
    ],
)
def test_scale_is_followed_through_the_operations(scores: Callable[[Tensor, Tensor], Tensor], scale: float) -> None:
    class Scored(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.q, self.k = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            weights = torch.softmax(scores(self.q(x), self.k(x)), -1)
            mean: Tensor = weights @ x
            return mean

    model, x = Scored(), torch.randn(2, 5, 4)
    [call] = record_attention(model, lambda: model(x)).calls
    assert call.scale == pytest.approx(scale) and call.d_head == 4
    assert torch.allclose(call.weights.sum(-1), torch.ones(2, 5))


def test_scaled_dot_product_attention_is_recorded_with_its_mask_and_scale() -> None:
    class Fused(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            q = x * 2
            return torch.nn.functional.scaled_dot_product_attention(q, x, x, is_causal=True, scale=0.25)

    model, x = Fused(), torch.randn(2, 3, 5, 4)
    [call] = record_attention(model, lambda: model(x)).calls
    assert torch.allclose(call.weights @ x, model(x), atol=1e-5) and not call.weights.triu(1).any()


class Classifier(nn.Module):
    """Classifies a row of ids; `split` and `merge` are how heads are made and undone, `divisor` of the scores."""

    def __init__(
        self,
        split: Callable[[Tensor], Tensor] = lambda x: x.view(*x.shape[:2], 2, -1).transpose(1, 2),
        merge: Callable[[Tensor], Tensor] = lambda x: x.transpose(1, 2).flatten(2),
        divisor: float = math.sqrt(C // 2),
    ) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(V, C), nn.Linear(C, 3)
        self.q, self.k, self.out = (nn.Linear(C, C) for _ in range(3))
        self.split, self.merge, self.divisor = split, merge, divisor

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embedding(ids)
        weights = (self.split(self.q(x)) @ self.split(self.k(x)).mT / self.divisor).softmax(dim=-1)
        logits: Tensor = self.head(self.out(self.merge(weights @ self.split(x))).mean(dim=1))
        return logits


def classifier_findings(model: nn.Module) -> list[Finding]:
    """Return what the check yields for a model of rows, without a view of its tokens."""
    ids = torch.randint(V, (3, T), generator=torch.Generator().manual_seed(0))
    target = any_target(
        model, lambda step: {"ids": ids, "y": ids[:, 0] % 3}, loss=row_loss, forward=row_forward, tokens=None
    )
    return list(attention.check(target))


def row_forward(model: nn.Module, rows: dict[str, Tensor]) -> Tensor:
    logits: Tensor = model(rows["ids"])
    return logits


def row_loss(model: nn.Module, rows: dict[str, Tensor]) -> Tensor:
    return nn.functional.cross_entropy(model(rows["ids"]), rows["y"])


def test_attention_of_a_classifier_is_judged_without_a_view_of_its_tokens() -> None:
    assert classifier_findings(Classifier()) == []
    [scale] = classifier_findings(Classifier(divisor=1 / math.sqrt(C // 2)))
    assert scale.code == "score_scale" and scale.kind == "finding"


def test_heads_of_a_classifier_that_are_reshaped_without_a_transpose_are_named() -> None:
    [split] = classifier_findings(
        Classifier(split=lambda x: x.view(len(x), 2, T, -1), merge=lambda x: x.reshape(len(x), T, C))
    )
    assert split.code == "heads_mixed" and "split" in split.title
    [merged] = classifier_findings(Classifier(merge=lambda x: x.reshape(len(x), T, C)))
    assert merged.code == "heads_mixed" and "merged" in merged.title


def test_upsampled_rows_have_no_mixed_heads() -> None:
    class Upsampled(Classifier):
        def forward(self, ids: Tensor) -> Tensor:
            x = self.out(self.embedding(ids).repeat_interleave(2, dim=1))
            weights = (self.split(self.q(x)) @ self.split(self.k(x)).mT / self.divisor).softmax(dim=-1)
            logits: Tensor = self.head(self.merge(weights @ self.split(x)).mean(dim=1))
            return logits

    assert classifier_findings(Upsampled()) == []


@pytest.mark.parametrize(("dim", "axis"), [(-1, ""), (0, "rows of the batch")])
def test_softmax_of_one_query_over_the_batch_is_named_after_axes_are_added(dim: int, axis: str) -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding, self.rnn = nn.Embedding(V, C), nn.GRU(C, C, batch_first=True)
            self.query, self.head = nn.Linear(C, C), nn.Linear(C, 3)

        def forward(self, ids: Tensor) -> Tensor:
            memory, state = self.rnn(self.embedding(ids))
            scores = torch.bmm(memory, self.query(state[0]).unsqueeze(2)).squeeze(2)
            weights = torch.softmax(scores, dim=dim)
            logits: Tensor = self.head(torch.bmm(weights.unsqueeze(1), memory).squeeze(1))
            return logits

    found = classifier_findings(Recurrent())
    assert [finding.code for finding in found] == (["attention_rows"] if axis else [])
    assert all(axis in finding.title for finding in found)

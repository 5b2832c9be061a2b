"""Positions, residual paths, caches, padding, prefixes and modes: each mistake is named, and healthy twins pass."""

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.core.doctor.small_transformer import Attention, C, Decoder, H, T, V, batch, target_of
from tui_lab.core.doctor.checks.model import cache, examples, modes, padding_effect, positions, prefix, residual
from tui_lab.core.doctor.findings import Finding, NotApplicable, NotJudged
from tui_lab.core.doctor.program.target import Target


@pytest.mark.parametrize("fault", ["", "rotary", "no_mask"])
def test_learned_and_rotary_positions_are_healthy(fault: str) -> None:
    assert list(positions.check(target_of(fault))) == []


@pytest.mark.parametrize(
    ("fault", "word"),
    [
        ("no_positions", "No position"),
        ("positions_over_batch", "rows of the batch"),
        ("positions_of_zero", "ids are equal"),
        ("rotary_on_queries", "queries only"),
        ("rotary_same_angle", "same angle"),
        ("rotary_over_heads", "over the heads"),
    ],
)
def test_missing_positions_are_named_with_their_cause(fault: str, word: str) -> None:
    [finding] = positions.check(target_of(fault))
    assert finding.code == "no_positions" and word in finding.title


@pytest.mark.parametrize(("trained", "n_findings"), [(True, 0), (False, 1)])
def test_table_of_positions_that_starts_at_zeros_is_healthy_if_it_is_trained(trained: bool, n_findings: int) -> None:
    class Zeros(Decoder):
        def __init__(self) -> None:
            super().__init__("no_positions")
            self.table = nn.Parameter(torch.zeros(1, T, C), requires_grad=trained)

        def placed(self, e: Tensor) -> Tensor:
            return e + self.table[:, : e.shape[1]]

    assert len(list(positions.check(target_of(Zeros())))) == n_findings


def test_single_attention_without_positions_is_judged_by_its_logits() -> None:
    [finding] = positions.check(target_of(Decoder("no_positions", layers=1)))
    assert finding.code == "no_positions"


def test_order_from_recurrence_needs_no_positions() -> None:
    class Recurrent(Decoder):
        def __init__(self) -> None:
            super().__init__("no_positions")
            self.rnn = nn.GRU(C, C, batch_first=True)

        def placed(self, e: Tensor) -> Tensor:
            return e + self.rnn(e)[0]  # type: ignore[no-any-return]

    assert list(positions.check(target_of(Recurrent()))) == []


@pytest.mark.parametrize(("fault", "part"), [("no_residual", "attention"), ("no_residual_mlp", "mlp")])
def test_missing_residual_path_is_a_finding(fault: str, part: str) -> None:
    [finding] = residual.check(target_of(fault))
    assert (finding.kind, finding.code) == ("finding", "no_residual") and part in finding.title


class PostNorm(Decoder):
    """Layers with a norm after each sum. scale: of the first layer's input. passing: what is left of it in the sum."""

    def __init__(self, scale: float = 1.0, passing: float = 1.0) -> None:
        super().__init__()
        self.scale = scale
        self.layers = nn.ModuleList(PassingLayer(passing) for _ in range(2))

    def forward(self, ids: Tensor) -> Tensor:
        x = self.scale * self.placed(self.tokens(ids))
        mask = nn.Transformer.generate_square_subsequent_mask(ids.shape[1])
        for layer in self.layers:
            x = layer(x, mask)
        logits: Tensor = self.head(x)
        return logits


class PassingLayer(nn.Module):
    def __init__(self, passing: float) -> None:
        super().__init__()
        self.passing = passing
        self.attention = nn.MultiheadAttention(C, 4, batch_first=True)
        self.norm = nn.LayerNorm(C)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        attended = self.attention(x, x, x, attn_mask=mask, need_weights=False)[0]
        output: Tensor = self.norm(self.passing * x + attended)
        return output


def test_norms_before_and_after_the_sum_have_residual_paths() -> None:
    assert list(residual.check(target_of(""))) == []
    assert list(residual.check(target_of(PostNorm()))) == []


def test_norm_that_shrinks_a_large_input_leaves_its_residual_path() -> None:
    assert list(residual.check(target_of(PostNorm(scale=40.0)))) == []


def test_residual_path_that_passes_almost_nothing_is_a_hint() -> None:
    [finding] = residual.check(target_of(PostNorm(passing=1e-3)))
    assert (finding.kind, finding.code) == ("hint", "no_residual") and "passes" in finding.title


class Cached(Decoder):
    """Has a cache of the blocks' inputs: each pass computes all of them again from there.

    mistake: "prefill": the prompt sees its future; "restart": positions start at 0 in each pass; "": none.
    """

    def __init__(self, mistake: str = "") -> None:
        super().__init__()
        self.mistake = mistake
        self.table = nn.Embedding(T, C)
        self.past: Tensor | None = None

    def placed(self, e: Tensor) -> Tensor:
        n, start = e.shape[1], 0
        if self.past is not None and self.mistake != "restart":
            start = self.past.shape[1]
        e = e + 3 * self.table(torch.arange(start, start + n))
        if self.past is not None:
            e = torch.cat([self.past, e], dim=1)
            self.past = e
        return e

    def continued(self, ids: Tensor) -> Tensor:
        """Return the logits of `ids` after what is cached."""
        attentions = [module for module in self.modules() if isinstance(module, Attention)]
        assert self.past is not None
        is_prompt = self.past.shape[1] == 0
        for module in attentions:
            module.fault = "no_mask" if self.mistake == "prefill" and is_prompt else ""
        logits: Tensor = self(ids)[:, -ids.shape[1] :]
        for module in attentions:
            module.fault = ""
        return logits


class Wrapped(nn.Module):
    """Gives the ids of each pass to a Cached model, with or without its cache."""

    def __init__(self, mistake: str = "") -> None:
        super().__init__()
        self.inner = Cached(mistake)

    def forward(self, ids: Tensor, cached: bool = False) -> Tensor:
        logits: Tensor = self.inner.continued(ids) if cached else self.uncached(ids)
        return logits

    def uncached(self, ids: Tensor) -> Tensor:
        past, self.inner.past = self.inner.past, None
        logits: Tensor = self.inner(ids)
        self.inner.past = past
        return logits

    def _tokens(self, prompt: Tensor, n: int) -> Iterator[Tensor]:
        self.inner.past = torch.zeros(len(prompt), 0, C)
        logits = self(prompt, cached=True)
        for _ in range(n):
            token = torch.multinomial(logits[:, -1].softmax(dim=-1), num_samples=1)
            yield token
            logits = self(token, cached=True)
        self.inner.past = None


class Generating(Wrapped):
    """Continues a prompt."""

    @torch.no_grad()
    def generate(self, prompt: Tensor, n: int) -> Iterator[Tensor]:
        yield from self._tokens(prompt, n)


class Sampling(Wrapped):
    """Writes rows that begin with a token of its own, and leaves the model in training mode."""

    @torch.no_grad()
    def sample(self, count: int) -> Tensor:
        self.eval()
        rows = torch.cat(list(self._tokens(torch.ones(count, 1, dtype=torch.int64), 8)), dim=1)
        self.train()
        return rows


@pytest.mark.parametrize(
    ("style", "mistake", "words"),
    [
        (Generating, "", []),
        (Generating, "prefill", ["no causal mask"]),
        (Generating, "restart", ["positions start again"]),
        (Sampling, "", []),
        (Sampling, "restart", ["positions start again"]),
    ],
)
def test_generation_with_a_cache_equals_full_passes(style: type[Wrapped], mistake: str, words: list[str]) -> None:
    torch.manual_seed(0)
    found = list(cache.check(target_of(style(mistake))))
    assert [finding.code for finding in found] == ["cache_differs"] * len(words)
    assert all(word in finding.title for word, finding in zip(words, found, strict=True))


def test_other_methods_with_such_names_do_not_matter() -> None:
    class Decoding(Decoder):
        def decode(self, latent: Tensor, memory: Tensor) -> Tensor:
            return self(latent + memory.long())  # type: ignore[no-any-return]

    with pytest.raises(NotApplicable):
        list(cache.check(target_of(Decoding())))


def test_generate_that_needs_unknown_arguments_is_not_judged() -> None:
    class Strange(Decoder):
        def generate(self, prompt: Tensor, n: int, ritual: object) -> Tensor:
            return prompt

    with pytest.raises(NotJudged):
        list(cache.check(target_of(Strange())))
    with pytest.raises(NotApplicable):
        list(cache.check(target_of("")))


class Translator(nn.Module):
    """Reads a source and a decoder's ids, and generates from a source."""

    def __init__(self) -> None:
        super().__init__()
        self.sources, self.decoder = nn.Embedding(V, C), Decoder()

    def encode(self, source: Tensor) -> Tensor:
        memory: Tensor = self.sources(source).mean(dim=1, keepdim=True)
        return memory

    def forward(self, source: Tensor, ids: Tensor) -> Tensor:
        decoder = self.decoder
        vectors = decoder.placed(decoder.tokens(ids)) + self.encode(source)
        for block in decoder.blocks:
            vectors = block(vectors)
        logits: Tensor = decoder.head(vectors)
        return logits

    def generate(self, source: Tensor, n: int) -> Tensor:
        ids = torch.zeros_like(source[:, :1])
        for _ in range(n):
            ids = torch.cat([ids, self(source, ids)[:, -1:].argmax(dim=-1)], dim=1)
        return ids


def translator_target() -> Target:
    def translations(step: int) -> tuple[Tensor, Tensor, Tensor]:
        x, y = batch(step)
        return batch(step + 100)[0], x, y

    return target_of(Translator(), batches=translations, forward=lambda model, b: model(b[0], b[1]))


def test_generation_from_a_source_is_not_compared_with_passes_over_the_source() -> None:
    with pytest.raises(NotApplicable):
        list(cache.check(translator_target()))


def test_shorter_rows_keep_a_source_that_is_as_long_as_the_rows() -> None:
    assert list(prefix.check(translator_target())) == []


@pytest.mark.parametrize("name", ["Bart", "T5"])
def test_cache_of_an_encoder_decoder_of_transformers_is_judged_with_its_source(name: str) -> None:
    transformers = pytest.importorskip("transformers")
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    sizes = {
        "Bart": {"encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16, **heads},
        "T5": {"d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2},
    }[name]
    ids = {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 1, "decoder_start_token_id": 0}
    config = getattr(transformers, f"{name}Config")(vocab_size=V, d_model=16, **sizes, **ids)
    torch.manual_seed(0)
    model = getattr(transformers, f"{name}ForConditionalGeneration")(config)

    def translations(step: int) -> dict[str, Tensor]:
        return {"input_ids": batch(step)[0] % (V - 2) + 2, "labels": batch(step + 100)[0] % (V - 2) + 2}

    target = target_of(model, batches=translations, rule=None)
    assert list(cache.check(target)) == []


class Continued(nn.Module):
    """Calls a model of transformers with its cache; positions may start again at 0 with each token."""

    def __init__(self, library_model: nn.Module, restarts: bool) -> None:
        super().__init__()
        self.library_model = library_model
        self.restarts = restarts
        self.past: Any = None

    def forward(self, ids: Tensor, start: int = 0) -> Tensor:
        places = torch.arange(start, start + ids.shape[1]).expand(len(ids), -1)
        names = inspect.signature(self.library_model.forward).parameters
        cache_name = "cache" if "cache" in names else "past_key_values"
        past = {cache_name: self.past} if start or self.restarts else {}
        output = self.library_model(input_ids=ids, position_ids=places, use_cache=True, **past)
        self.past = getattr(output, cache_name)
        logits: Tensor = output.logits
        return logits

    def generate(self, prompt: Tensor, n: int) -> Tensor:
        self.past = None
        tokens = prompt
        logits = self(prompt)
        for _ in range(n):
            token = logits[:, -1:].argmax(dim=-1)
            logits = self(token, 0 if self.restarts else tokens.shape[1])
            tokens = torch.cat([tokens, token], dim=1)
        self.past = None
        return tokens


@pytest.mark.parametrize("restarts", [False, True])
def test_own_generation_is_judged_before_the_cache_of_the_library_model_that_it_calls(restarts: bool) -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.GPT2Config(vocab_size=V, n_positions=T, n_embd=16, n_layer=1, n_head=2)
    model = Continued(transformers.GPT2LMHeadModel(config), restarts)
    codes = [finding.code for finding in cache.check(target_of(model, forward=lambda model, b: model(b[0])))]
    assert codes == ["cache_differs"] * restarts


class Hugging(nn.Module):
    """Accepts attention_mask as models of transformers do, and may ignore it."""

    def __init__(self, ignores_mask: bool) -> None:
        super().__init__()
        self.ignores_mask = ignores_mask
        self.tokens, self.head = nn.Embedding(V, C), nn.Linear(C, V)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Any:
        mask = torch.ones_like(input_ids) if attention_mask is None or self.ignores_mask else attention_mask
        e = self.tokens(input_ids) * mask[..., None]
        logits: Tensor = self.head(e + e.cumsum(dim=1) / mask.cumsum(dim=1).clamp(min=1)[..., None])
        return logits


@pytest.mark.parametrize("ignores_mask", [False, True])
def test_masked_padding_changes_nothing(ignores_mask: bool) -> None:
    found = list(padding_effect.check(target_of(Hugging(ignores_mask))))
    assert [finding.code for finding in found] == ["padding_attended"] * ignores_mask


class FirstPlaceIsOne(nn.Module):
    """Like RoBERTa: its own positions begin after that of the padding token, and it accepts others."""

    def __init__(self, causal: bool, ignores_mask: bool) -> None:
        super().__init__()
        self.causal = causal
        self.mixing = Hugging(ignores_mask)
        self.places = nn.Embedding(2 * T, V)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, position_ids: Tensor | None = None
    ) -> Any:
        if position_ids is None:
            position_ids = torch.arange(1, input_ids.shape[1] + 1).expand_as(input_ids)
        forward: Tensor = self.mixing(input_ids, attention_mask)
        if self.causal:
            return forward + self.places(position_ids)
        backward: Tensor = self.mixing(input_ids.flip(1), None if attention_mask is None else attention_mask.flip(1))
        return forward + backward.flip(1) + self.places(position_ids)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("ignores_mask", [False, True])
def test_positions_that_do_not_begin_at_zero_are_no_effect_of_padding(causal: bool, ignores_mask: bool) -> None:
    torch.manual_seed(0)
    found = list(padding_effect.check(target_of(FirstPlaceIsOne(causal, ignores_mask))))
    assert [finding.code for finding in found] == ["padding_attended"] * ignores_mask


def test_program_without_padding_is_not_applicable() -> None:
    with pytest.raises(NotApplicable):
        list(padding_effect.check(target_of("")))


class FromTheEnd(Decoder):
    def placed(self, e: Tensor) -> Tensor:
        return e + self.places[: e.shape[1]].flip(0)


def test_positions_that_count_from_the_end_make_prefixes_differ() -> None:
    assert list(prefix.check(target_of(""))) == []
    [finding] = prefix.check(target_of(FromTheEnd()))
    assert (finding.kind, finding.code) == ("finding", "prefix_differs")


class ByLength(Decoder):
    """Multiplies logits by a factor that is 0.6 % larger in rows of 12 tokens than in rows of six."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype

    def forward(self, ids: Tensor) -> Tensor:
        return (super().forward(ids) * (1 + 0.001 * ids.shape[1])).to(self.dtype)


@pytest.mark.parametrize(("dtype", "kinds"), [(torch.float32, ["hint"]), (torch.bfloat16, [])])
def test_difference_of_prefixes_is_judged_by_the_precision_of_the_pass(dtype: torch.dtype, kinds: list[str]) -> None:
    torch.manual_seed(0)
    findings = list(prefix.check(target_of(ByLength(dtype))))
    assert [finding.kind for finding in findings] == kinds


class Doubled(Decoder):
    def placed(self, e: Tensor) -> Tensor:
        return super().placed(e) * (2 if self.training else 1)


class Dropping(Decoder):
    def placed(self, e: Tensor) -> Tensor:
        return nn.functional.dropout(super().placed(e), 0.5, self.training)


def test_mode_that_changes_more_than_dropout_is_a_hint() -> None:
    def found(model: nn.Module) -> list[Finding]:
        return list(modes.check(target_of(model, batches=batch)))

    assert found(Decoder()) == [] and found(Dropping()) == []
    [finding] = found(Doubled())
    assert (finding.kind, finding.code) == ("hint", "mode_difference")


class Regression(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.layer, self.factor = nn.Linear(5, 1), factor

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = nn.functional.dropout(self.layer(x), 0.5, self.training)
        return y * (self.factor if self.training else 1.0)


@pytest.mark.parametrize("factor", [1.0, 1.5])
def test_modes_are_compared_without_tokens(factor: float) -> None:
    x = torch.randn(8, 5, generator=torch.Generator().manual_seed(0))
    target = target_of(Regression(factor), batches=lambda step: (x, x[:, :1]), rule=None)
    assert [finding.code for finding in modes.check(target)] == ["mode_difference"] * (factor != 1.0)


class RowClassifier(nn.Module):
    """Float rows [B, T, C] to scores [B, 3] through attention over the positions, or over the rows of the batch."""

    def __init__(self, batch_first: bool = True, mean: bool = False) -> None:
        super().__init__()
        self.layer = nn.Linear(5, C)
        self.attention = nn.MultiheadAttention(C, H, batch_first=batch_first)
        self.head, self.mean = nn.Linear(C, 3), mean

    def forward(self, x: Tensor) -> Tensor:
        e = self.layer(x)
        e = e - e.mean(dim=0, keepdim=True) if self.mean else e
        scores: Tensor = self.head(self.attention(e, e, e)[0].mean(dim=1))
        return scores


@pytest.mark.parametrize(
    ("model", "kinds"),
    [
        (lambda: RowClassifier(), []),
        (lambda: RowClassifier(batch_first=False), ["finding"]),
        (lambda: RowClassifier(mean=True), ["finding"]),
    ],
)
def test_examples_that_influence_each_other_are_seen_without_tokens(
    model: Callable[[], nn.Module], kinds: list[str]
) -> None:
    def rows(step: int) -> tuple[Tensor, Tensor]:
        x = torch.randn(8, 6, 5, generator=torch.Generator().manual_seed(step))
        return x, (x.sum(dim=(1, 2)) > 0).long()

    torch.manual_seed(0)
    findings = list(examples.check(target_of(model(), batches=rows, rule=None)))
    assert [finding.kind for finding in findings] == kinds
    assert {finding.code for finding in findings} <= {"batch_mixing"}


def test_items_without_a_target_each_may_influence_each_other() -> None:
    def series(step: int) -> tuple[Tensor, Tensor]:
        x = torch.randn(12, 4, 5, generator=torch.Generator().manual_seed(step))
        return x, x[:, :, :1]

    class Series(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.recurrent, self.head = nn.LSTM(5, C), nn.Linear(C, 1)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.head(self.recurrent(x)[0])
            return y

    with pytest.raises(NotApplicable):
        list(examples.check(target_of(Series(), batches=series, rule=None)))

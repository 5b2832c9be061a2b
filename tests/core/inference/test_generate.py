"""Generation: the cache, seeds, sampling against a numpy version, and text of split characters."""

import codecs

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.core.tiny import tiny
from tui_lab.core.config.schema import ModelConfig
from tui_lab.core.inference.decoder import decoder_of
from tui_lab.core.inference.generate import generate, generate_batch, nucleus, sampling_probabilities
from tui_lab.core.inference.sampling import Generated, Sampling
from tui_lab.core.inference.token_step import is_plain
from tui_lab.core.kernels.linear import Kernels
from tui_lab.core.model import AttentionWeights, Transformer
from tui_lab.core.training.model_factory import build_model
from tui_lab.data.tokenizers import CharTokenizer, DigitsTokenizer, Gpt2Tokenizer, SeenVocabulary, decode
from tui_lab.util.errors import ConfigError

MODEL = ModelConfig(d_model=8, n_layers=2, n_heads=2, d_head=4, d_ff=8, context=8, dropout=0.5)
GREEDY = Sampling(temperature=0.0)


def model_and_tokenizer() -> tuple[Transformer, CharTokenizer]:
    tokenizer = CharTokenizer()
    return Transformer(MODEL, tokenizer.n_vocab, seed=1), tokenizer


def generate_tokens(
    sampling: Sampling = GREEDY, prompt: str = "So", n: int = 30, *, use_cache: bool = True
) -> list[Generated]:
    model, tokenizer = model_and_tokenizer()
    return list(generate(model, tokenizer, prompt, max_new_tokens=n, sampling=sampling, use_cache=use_cache))


@pytest.mark.parametrize("prompt", ["S", "Socrate", "Socrates", "Socrates, where from?"])
@pytest.mark.parametrize("sampling", [GREEDY, Sampling(temperature=1.3, seed=3), Sampling(top_k=7, top_p=0.7)])
def test_cache_changes_no_token_within_and_beyond_the_context(prompt: str, sampling: Sampling) -> None:
    cached, plain = (generate_tokens(sampling, prompt, use_cache=use) for use in (True, False))
    assert [token.token for token in cached] == [token.token for token in plain]
    assert [token.probability for token in cached] == pytest.approx([token.probability for token in plain], rel=1e-4)


def next_logits(model: Transformer, *, steps: bool) -> list[Tensor]:
    decoder = decoder_of(model, 40) if steps else model.decoder(40)
    row = [5, 1, 7]
    with torch.inference_mode():
        return [decoder(row + [3] * n) for n in range(8)]


@pytest.mark.parametrize("d_head", [4, 8])
def test_steps_of_one_token_equal_the_modules_bit_for_bit(d_head: int) -> None:
    """With d_head 8, queries, keys and values are one product; the last three rows exceed the context."""
    model = Transformer(MODEL.model_copy(update={"d_head": d_head}), 50, seed=1).eval()
    steps, modules = (torch.stack(next_logits(model, steps=flag)) for flag in (True, False))
    assert torch.equal(steps, modules)


def test_steps_in_bfloat16_round_no_more_than_autocast() -> None:
    model = Transformer(MODEL, 50, seed=1).eval()
    exact = torch.stack(next_logits(model, steps=True))
    model.set_kernels(Kernels(precision="bf16"))
    steps, modules = (torch.stack(next_logits(model, steps=flag)) for flag in (True, False))
    assert steps.dtype == torch.float32 and not torch.equal(steps, exact)
    assert (steps - exact).abs().max() < min(0.01 * exact.abs().max(), (modules - exact).abs().max())


@pytest.mark.parametrize("look", [True, False])
def test_models_with_hooks_and_faults_are_generated_from_by_their_modules(look: bool) -> None:
    model = Transformer(MODEL, 50, seed=1).eval()
    assert is_plain(model)
    calls: list[object] = []
    if look:
        model.layers[0].register_forward_hook(lambda *_: calls.append(0))
    else:
        model.layers[1].attention.weights = type("Shifted", (AttentionWeights,), {})()  # type: ignore[union-attr]
    assert not is_plain(model)
    next_logits(model, steps=True)
    assert len(calls) == (8 if look else 0)


PROMPTS = ["S", "Socrates, where from?", "Socrate", "So", "Where"]


@pytest.mark.parametrize("sampling", [GREEDY, Sampling(temperature=1.3, top_p=0.9, seed=3)])
def test_batch_generates_what_each_prompt_gives_alone(sampling: Sampling) -> None:
    """Prompts of several lengths, below and above the context, that end at different times."""
    model, tokenizer = model_and_tokenizer()
    lengths = [9, 3, 0, 5, 1]
    batch = generate_batch(model, tokenizer, PROMPTS, max_new_tokens=lengths, sampling=sampling)
    for prompt, n, row in zip(PROMPTS, lengths, batch, strict=True):
        alone = list(generate(model, tokenizer, prompt, max_new_tokens=n, sampling=sampling, n_alternatives=0))
        assert [(token.token, token.text) for token in row] == [(token.token, token.text) for token in alone]
        assert [token.probability for token in row] == pytest.approx([token.probability for token in alone], rel=1e-4)


def test_memory_that_was_not_written_has_no_effect() -> None:
    model, tokenizer = model_and_tokenizer()
    # Which fills uninitialized memory with NaN. The public function imports the compiler, for two seconds.
    torch._C._set_deterministic_algorithms(True)
    try:
        [short, _] = generate_batch(model, tokenizer, ["S", "Socrat"], max_new_tokens=[5, 2], sampling=GREEDY)
    finally:
        torch._C._set_deterministic_algorithms(False)
    alone = generate(model, tokenizer, "S", max_new_tokens=5, sampling=GREEDY, n_alternatives=0)
    assert [token.token for token in short] == [token.token for token in alone]


def test_batch_of_a_model_with_a_fault_is_generated_row_by_row() -> None:
    model = build_model(tiny('faults=["no_mask"]'), 11)
    tokenizer = DigitsTokenizer(11)
    batch = generate_batch(model, tokenizer, ["12", "3"], max_new_tokens=[3, 3], sampling=GREEDY)
    assert batch == [
        list(generate(model, tokenizer, prompt, max_new_tokens=3, sampling=GREEDY, n_alternatives=0))
        for prompt in ("12", "3")
    ]


def test_seed_gives_the_same_text_whatever_torch_draws() -> None:
    first = generate_tokens(Sampling(temperature=1.0, seed=5))
    torch.rand(10)
    assert generate_tokens(Sampling(temperature=1.0, seed=5)) == first
    assert generate_tokens(Sampling(temperature=1.0, seed=6)) != first


def test_generation_leaves_the_global_generator_unchanged() -> None:
    model, tokenizer = model_and_tokenizer()
    before = torch.get_rng_state()
    list(generate(model, tokenizer, "So", max_new_tokens=4, sampling=Sampling()))
    assert torch.equal(before, torch.get_rng_state())


def test_probabilities_are_the_models_and_alternatives_are_sorted() -> None:
    model, tokenizer = model_and_tokenizer()
    [token] = generate_tokens(n=1)
    model.eval()
    with torch.no_grad():
        own = model(torch.tensor([tokenizer.encode("So").tolist()]))[0, -1].softmax(dim=0)
    assert token.probability == pytest.approx(float(own[token.token]))
    assert [a.token for a in token.alternatives] == own.topk(5).indices.tolist()
    assert token.alternatives[0].token == token.token, "greedy takes the likeliest"


def by_numpy(logits: np.ndarray[tuple[int], np.dtype[np.float64]], sampling: Sampling) -> list[float]:
    """Temperature, top-k, top-p the slow way: walk the tokens from the likeliest down."""
    scaled = (logits - logits.max()) / sampling.temperature
    order = sorted(range(len(scaled)), key=lambda i: (-scaled[i], i))
    kept = order[: sampling.top_k or None]
    mass = {i: float(np.exp(scaled[i])) for i in kept}
    total, reached, nucleus = sum(mass.values()), 0.0, []
    for i in kept:
        if reached >= sampling.top_p:
            break
        nucleus.append(i)
        reached += mass[i] / total
    left = sum(mass[i] for i in nucleus)
    return [mass[i] / left if i in nucleus else 0.0 for i in range(len(scaled))]


@given(
    logits=st.lists(st.integers(-40, 40), min_size=2, max_size=20, unique=True),
    temperature=st.floats(0.1, 10),
    top_k=st.integers(0, 25),
    top_p=st.floats(0.05, 0.95),
)
@settings(deadline=None)
def test_sampling_equals_the_numpy_version(logits: list[int], temperature: float, top_k: int, top_p: float) -> None:
    sampling = Sampling(temperature, top_k, top_p)
    values = np.array(logits, dtype=np.float64) / 4
    expected = by_numpy(values, sampling)
    # Where the mass reaches p to a rounding error, either answer is right.
    reached = np.cumsum(sorted(by_numpy(values, Sampling(temperature, top_k)), reverse=True))
    assume(np.abs(reached - top_p).min() > 1e-9)
    probabilities = sampling_probabilities(torch.tensor(values), sampling)
    np.testing.assert_allclose(probabilities.numpy(), expected, rtol=1e-6, atol=1e-12)


@given(masses=st.lists(st.integers(0, 6), min_size=1, max_size=40).filter(any), p=st.floats(0.01, 0.999))
@settings(deadline=None)
def test_nucleus_equals_the_one_of_a_stable_sort(masses: list[int], p: float) -> None:
    """Small numbers of masses give many tokens that are equally likely; masses 0 are tokens without probability."""
    probabilities = torch.tensor(masses, dtype=torch.float32) ** 5
    probabilities /= probabilities.sum()
    ordered, ids = probabilities.double().sort(descending=True, stable=True)
    before = ordered.cumsum(dim=0) - ordered
    assume((before - p).abs().min() > 1e-12)
    expected = torch.zeros(len(masses), dtype=torch.bool).index_fill_(0, ids[before < p], True)
    assert torch.equal(nucleus(probabilities, p), expected)


@pytest.mark.parametrize("temperature", [0.0, 1e-30, 1e-3, 100.0])
def test_temperature_of_any_size_gives_a_distribution(temperature: float) -> None:
    probabilities = sampling_probabilities(torch.tensor([80.0, -80.0, 79.0]), Sampling(temperature, 0, 0.9))
    assert (
        torch.isfinite(probabilities).all()
        and probabilities.sum() == pytest.approx(1.0)
        and probabilities.argmax() == 0
    )


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("temperature", -0.1),
        ("temperature", float("nan")),
        ("top_k", -1),
        ("top_p", 0.0),
        ("top_p", 1.1),
        ("seed", -1),
    ],
)
def test_sampling_out_of_bounds_is_an_error(key: str, value: float) -> None:
    with pytest.raises(ConfigError) as caught:
        Sampling(**{key: value})  # type: ignore[arg-type]
    [problem] = caught.value.problems
    assert (problem.code, problem.key, problem.value) == ("invalid", key, value)
    assert problem.allowed


def test_empty_prompt_is_an_error() -> None:
    with pytest.raises(ConfigError) as caught:
        generate_tokens(prompt="")
    assert (caught.value.code, caught.value.problems[0].key) == ("missing", "prompt")


def test_stop_ends_generation_before_the_next_token() -> None:
    model, tokenizer = model_and_tokenizer()
    answers = iter([False, False, True])
    tokens = generate(model, tokenizer, "So", max_new_tokens=30, sampling=GREEDY, stop=lambda: next(answers))
    assert len(list(tokens)) == 2


def test_text_of_a_split_character_comes_with_its_last_byte() -> None:
    base = Gpt2Tokenizer()
    halves = [int(i) for i in base.encode("馬")]
    assert len(halves) > 1
    tokenizer = SeenVocabulary(base, halves)
    model = Transformer(MODEL, tokenizer.n_vocab, seed=0)
    sampling = Sampling(temperature=100.0, seed=2)
    tokens = list(generate(model, tokenizer, "馬", max_new_tokens=40, sampling=sampling))
    generated = b"".join(tokenizer.token_bytes(token.token) for token in tokens)
    assert "".join(token.text for token in tokens) == generated.decode("utf-8", errors="replace")
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    assert [token.text for token in tokens[:-1]] == [
        decoder.decode(tokenizer.token_bytes(token.token)) for token in tokens[:-1]
    ]
    assert any(token.text == "" for token in tokens), "some token is the first half of a character"
    assert decode(tokenizer, [token.token for token in tokens]) == generated.decode("utf-8", errors="replace")


def test_ids_beyond_the_tokenizer_become_replacement_characters() -> None:
    config = tiny('faults=["wrong_vocab"]')
    model = build_model(config, 5)
    generated = list(generate(model, DigitsTokenizer(5), "12", max_new_tokens=20, sampling=Sampling(1.0)))
    assert max(token.token for token in generated) >= 5 and "\ufffd" in "".join(token.text for token in generated)

"""Generation with the plain forward of any model equals that of the built-in one, and errors are sentences."""

import random
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tui_lab.core.commands import Generate
from tui_lab.core.config.schema import ModelConfig
from tui_lab.core.inference.generate import generate
from tui_lab.core.inference.sampling import Generated, Sampling
from tui_lab.core.model import Transformer
from tui_lab.core.watch.answers.generation import generate_plain
from tui_lab.data.tokenizers import CharTokenizer
from tui_lab.util.errors import ConfigError

MODEL = ModelConfig(d_model=8, n_layers=2, n_heads=2, d_head=4, d_ff=8, context=8, dropout=0.5)
TOKENIZER = CharTokenizer()
CPU = torch.device("cpu")


def model() -> Transformer:
    return Transformer(MODEL, TOKENIZER.n_vocab, seed=1).eval()


def encode(text: str) -> list[int]:
    return [int(token) for token in TOKENIZER.encode(text)]


def request(n: int = 20, prompt: str = "So", **sampling: Any) -> Generate:
    return Generate("a", prompt, max_new_tokens=n, **sampling)


def tokens_of(forward: Callable[[Tensor], Any], wanted: Generate | None = None, **options: Any) -> list[Generated]:
    options = {"context": MODEL.context} | options
    return list(generate_plain(forward, encode, TOKENIZER, wanted or request(), device=CPU, **options))


def problem(forward: Callable[[Tensor], Any], wanted: Generate | None = None, **options: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        tokens_of(forward, wanted, **options)
    assert str(caught.value)
    return caught.value.code


class TestParity:
    @pytest.mark.parametrize("prompt", ["S", "Socrates", "Socrates, where from?"])
    @pytest.mark.parametrize("options", [{"temperature": 0.0}, {"seed": 3}, {"top_k": 7, "top_p": 0.7, "seed": 1}])
    def test_tokens_are_those_of_the_built_in_generation(self, prompt: str, options: dict[str, Any]) -> None:
        wanted = request(prompt=prompt, **options)
        sampling = Sampling(wanted.temperature, wanted.top_k, wanted.top_p, wanted.seed)
        expected = list(generate(model(), TOKENIZER, prompt, max_new_tokens=20, sampling=sampling, use_cache=False))
        tokens = tokens_of(model(), wanted)
        assert [(token.token, token.text) for token in tokens] == [(token.token, token.text) for token in expected]
        for ours, theirs in zip(tokens, expected, strict=True):
            assert ours.probability == pytest.approx(theirs.probability, rel=1e-4)
            assert len(ours.alternatives) == 5 and ours.alternatives[0].probability == pytest.approx(
                theirs.alternatives[0].probability, rel=1e-4
            )

    @pytest.mark.parametrize(
        "wrap",
        [
            lambda logits: (logits, None),
            lambda logits: [torch.tensor(1.0), logits],
            lambda logits: {"loss": None, "logits": logits},
            lambda logits: {"loss": torch.tensor(1.0), "out": logits},
            lambda logits: SimpleNamespace(logits=logits),
            lambda logits: logits[:, [-1]],
            lambda logits: logits[:, -1],
            lambda logits: logits[0],
            lambda logits: logits.transpose(1, 2),
            lambda logits: (logits[:, [-1]], None),
        ],
    )
    def test_any_form_of_the_logits(self, wrap: Callable[[Tensor], Any]) -> None:
        inner = model()
        assert tokens_of(lambda ids: wrap(inner(ids))) == tokens_of(inner)

    def test_script_is_not_changed(self) -> None:
        def draws() -> list[float]:
            return [random.random(), np.random.rand(), float(torch.rand(1))]

        def seed() -> None:
            random.seed(0)
            np.random.seed(0)
            torch.manual_seed(0)

        inner = model()
        kept: list[Tensor] = []

        def forward(ids: Tensor) -> Tensor:
            draws()
            kept.append(inner(ids))
            return kept[-1]

        seed()
        expected = draws()
        seed()
        tokens_of(forward)
        assert draws() == expected and torch.is_grad_enabled()
        assert not any(logits.requires_grad or logits.is_inference() for logits in kept)

    def test_stop(self) -> None:
        answers = iter([False, False, True])
        assert len(tokens_of(model(), stop=lambda: next(answers))) == 2


class TestContext:
    def test_row_is_cut_to_the_context(self) -> None:
        lengths: list[int] = []

        def forward(ids: Tensor) -> Tensor:
            lengths.append(ids.shape[1])
            return torch.zeros(1, ids.shape[1], 256)

        tokens_of(forward, request(n=6), context=4, n_vocab=256)
        assert lengths == [2, 3, 4, 4, 4, 4]

    @pytest.mark.parametrize("prompt", ["S", "Socrates", "Socrates, where from?"])
    def test_unknown_context_is_found(self, prompt: str) -> None:
        wanted = request(prompt=prompt, seed=2)
        inner = model()

        def strict(ids: Tensor) -> Tensor:
            if ids.shape[1] > MODEL.context:
                raise IndexError("index out of range in self")
            logits: Tensor = inner(ids)
            return logits

        assert tokens_of(strict, wanted, context=None) == tokens_of(inner, wanted)

    def test_model_that_takes_only_whole_rows(self) -> None:
        inner = model()

        def strict(ids: Tensor) -> Tensor:
            assert ids.shape[1] == MODEL.context
            logits: Tensor = inner(ids)
            return logits

        wanted = request(temperature=0.0)
        expected = [token.token for token in tokens_of(inner, wanted)]
        assert [token.token for token in tokens_of(strict, wanted)] == expected


class TestErrors:
    @pytest.mark.parametrize("context", [None, 8])
    @pytest.mark.parametrize(
        "forward",
        [
            lambda ids, targets: ids,
            lambda ids: 1 / 0,
            lambda ids: None,
            lambda ids: ids,
            lambda ids: torch.zeros(2, ids.shape[1], 5),
            lambda ids: torch.zeros(5),
            lambda ids: (None, torch.tensor(1.0)),
            lambda ids: torch.full((1, ids.shape[1], 256), torch.nan),
        ],
    )
    def test_model_that_gives_no_logits(self, forward: Callable[..., Any], context: int | None) -> None:
        assert problem(forward, context=context) == "user_code"

    def test_missing_argument_is_named(self) -> None:
        with pytest.raises(ConfigError, match="targets"):
            tokens_of(lambda ids, targets: ids)  # type: ignore[arg-type,misc]

    def test_prompt(self) -> None:
        assert problem(model(), request(prompt="")) == "missing"
        assert problem(model(), n_vocab=10) == "invalid"
        assert problem(lambda ids: torch.zeros(1, ids.shape[1], 10)) == "invalid"
        with pytest.raises(ConfigError):
            list(generate_plain(model(), lambda text: [1 // 0], TOKENIZER, request(), 8, CPU))

    def test_sampling_out_of_bounds(self) -> None:
        assert problem(model(), request(temperature=-1.0)) == "invalid"

"""Compare tokens/s of tui-lab, of Hugging Face's `generate` and of a loop without a cache, measured in turn.

tui-lab and Hugging Face are measured in float32 and in bfloat16: ours keeps the head's weights in it, theirs all
weights.
"""

import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch

from tui_lab.bench.baselines import Absent, hugging_face_model, in_precision
from tui_lab.bench.nanogpt_baseline import EagerGPT, generate_uncached
from tui_lab.core.config import settings
from tui_lab.core.config.schema import Config
from tui_lab.core.inference.generate import generate, generate_batch
from tui_lab.core.inference.sampling import Sampling
from tui_lab.core.kernels.autotune import with_kernels
from tui_lab.core.kernels.precision import Precision, dtype_of
from tui_lab.core.kernels.process_tuning import keep_freed_memory
from tui_lab.core.model import Transformer
from tui_lab.core.training.model_factory import build_model
from tui_lab.core.training.task_factory import build_task
from tui_lab.data.tokenizers import Tokenizer, decode
from tui_lab.runs.machine import machine

PROMPT_TOKENS = 8
NEW_TOKENS = 112
LONG_PROMPT = 100
ROUNDS = 10
BATCH = 8
BATCH_NAME = f"tui-lab, {BATCH} prompts at once, greedy"
FIRST_TOKEN = "first token"  # noqa: S105
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16")
Generators = dict[str, Callable[[], object]]
SAMPLINGS = {
    "greedy": Sampling(temperature=0.0),
    "temperature 0.8": Sampling(temperature=0.8),
    "top-k 50": Sampling(temperature=0.8, top_k=50),
    "top-p 0.9": Sampling(temperature=0.8, top_p=0.9),
}


def bench_generate(preset: str = "pseudo-socrates", rounds: int = ROUNDS) -> dict[str, Any]:
    """Return all figures as JSON values. The weights are untrained: a token's cost does not depend on them."""
    keep_freed_memory()
    config = settings.load(preset)
    tokenizer = build_task(config).tokenizer
    letters = tokenizer.encode("".join(chr(97 + i % 26) + " " for i in range(4 * LONG_PROMPT)))
    short, long = (decode(tokenizer, letters[:n]) for n in (PROMPT_TOKENS, LONG_PROMPT))
    ids = torch.from_numpy(tokenizer.encode(short))[None]
    generators: Generators = {}
    absent = {}
    for precision in PRECISIONS:
        generators |= _own_generators(config, tokenizer, short, long, precision)
    try:
        for precision in PRECISIONS:
            generators |= _hugging_face_generators(config, tokenizer.n_vocab, ids, precision)
    except Absent as error:
        absent["Hugging Face"] = str(error)
    times = _in_turn(generators, rounds)
    first = {name: times.pop(in_precision(FIRST_TOKEN, name)) for name in PRECISIONS}
    return {
        "machine": machine(),
        "preset": preset,
        "prompt_tokens": len(ids[0]),
        "new_tokens": NEW_TOKENS,
        "rows": {name: _row(name, seconds, times) for name, seconds in times.items()},
        "first_token_ms": {"prompt_tokens": len(tokenizer.encode(long))}
        | {name: {"median": 1000 * statistics.median(s), "largest": 1000 * max(s)} for name, s in first.items()},
        "absent": absent,
    }


def _own_generators(config: Config, tokenizer: Tokenizer, short: str, long: str, precision: Precision) -> Generators:
    """tui-lab with each sampling, the time to the first token of a long prompt, and a loop without a cache."""
    config = settings.changed(config, "train.precision", precision)
    model = build_model(with_kernels(config, tokenizer.n_vocab), tokenizer.n_vocab)
    assert isinstance(model, Transformer)

    def own(sampling: Sampling, prompt: str, n: int) -> None:
        for _ in generate(model, tokenizer, prompt, max_new_tokens=n, sampling=sampling, n_alternatives=0):
            pass

    def batch() -> None:
        counts = [NEW_TOKENS] * BATCH
        generate_batch(model, tokenizer, [short] * BATCH, max_new_tokens=counts, sampling=SAMPLINGS["greedy"])

    generators: Generators = {
        **{f"tui-lab, {name}": partial(own, sampling, short, NEW_TOKENS) for name, sampling in SAMPLINGS.items()},
        BATCH_NAME: batch,
        FIRST_TOKEN: partial(own, SAMPLINGS["temperature 0.8"], long, 1),
    }
    if precision == "fp32":
        uncached = EagerGPT(config.model, tokenizer.n_vocab).take_weights(model).eval()
        ids = torch.from_numpy(tokenizer.encode(short))[None]
        generators["loop without a cache, greedy"] = partial(generate_uncached, uncached, ids, NEW_TOKENS)
    return {in_precision(name, precision): run for name, run in generators.items()}


def _hugging_face_generators(config: Config, n_vocab: int, ids: torch.Tensor, precision: Precision) -> Generators:
    """Hugging Face's `generate` with two samplings. Raises Absent."""
    model = hugging_face_model(config, n_vocab, use_cache=True).eval().to(dtype_of(precision))
    generate_as_many = partial(
        model.generate,
        ids,
        attention_mask=torch.ones_like(ids),
        min_new_tokens=NEW_TOKENS,
        max_new_tokens=NEW_TOKENS,
        pad_token_id=0,
        use_cache=True,
    )
    sampled = partial(generate_as_many, do_sample=True, top_k=0, temperature=0.8)
    generators: Generators = {
        "Hugging Face, greedy": partial(generate_as_many, do_sample=False),
        "Hugging Face, temperature 0.8": sampled,
    }
    return {in_precision(name, precision): run for name, run in generators.items()}


def _row(name: str, seconds: list[float], times: Mapping[str, list[float]]) -> dict[str, Any]:
    """Summarize one generator. ours_is_faster: by precision of ours, how many times as long it takes.

    Ours is with the same sampling. A batch counts the tokens of all its rows, and is compared with one row.
    """
    n_tokens = NEW_TOKENS * (BATCH if name.startswith(BATCH_NAME) else 1)
    rates = sorted(n_tokens / s for s in seconds)
    low, _, high = statistics.quantiles(rates, n=4)
    sampling = next((each for each in SAMPLINGS if f", {each}" in name), "greedy")
    ours = {precision: times[in_precision(f"tui-lab, {sampling}", precision)] for precision in PRECISIONS}
    return {
        "tokens_per_s": statistics.median(rates),
        "quartiles": [low, high],
        "ours_is_faster": {
            in_precision("tui-lab", precision): statistics.median(
                b / a * NEW_TOKENS / n_tokens for a, b in zip(own, seconds, strict=True)
            )
            for precision, own in ours.items()
        },
    }


def _in_turn(generators: Generators, rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each call. The first round warms up and is not counted."""
    times: dict[str, list[float]] = {name: [] for name in generators}
    for turn in range(rounds + 1):
        for name, run in generators.items():
            start = time.perf_counter()
            with torch.inference_mode():
                run()
            if turn:
                times[name].append(time.perf_counter() - start)
    return times

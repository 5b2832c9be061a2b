"""Tokens/s of ours, of Hugging Face's `generate` and of a loop without a cache, by turns."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from tui_lab.bench.baselines import Absent, hugging_face_model
from tui_lab.bench.nanogpt_baseline import EagerGPT, generate_uncached
from tui_lab.core.config import settings
from tui_lab.core.inference.generate import generate
from tui_lab.core.inference.sampling import Sampling
from tui_lab.core.kernels.autotune import with_kernels
from tui_lab.core.kernels.process_tuning import keep_freed_memory
from tui_lab.core.model import Transformer
from tui_lab.core.training.model_factory import build_model
from tui_lab.core.training.task_factory import build_task
from tui_lab.runs.machine import machine

PROMPT_TOKENS, NEW_TOKENS = 8, 112
LONG_PROMPT = 100
ROUNDS = 15
SAMPLINGS = {
    "greedy": Sampling(temperature=0.0),
    "temperature 0.8": Sampling(temperature=0.8),
    "top-k 50": Sampling(temperature=0.8, top_k=50),
    "top-p 0.9": Sampling(temperature=0.8, top_p=0.9),
}


def bench_generate(preset: str = "pseudo-socrates", rounds: int = ROUNDS) -> dict[str, Any]:
    """All figures as JSON values. Untrained weights: what a token costs does not depend on which one it is."""
    keep_freed_memory()
    config = settings.load(preset)
    task = build_task(config)
    tokenizer, n_vocab = task.tokenizer, task.tokenizer.n_vocab
    model = build_model(with_kernels(config, n_vocab), n_vocab)
    assert isinstance(model, Transformer)
    words = tokenizer.encode("".join(chr(97 + i % 26) + " " for i in range(4 * LONG_PROMPT)))
    short, long = (_text(tokenizer, words[:n]) for n in (PROMPT_TOKENS, LONG_PROMPT))
    ids = torch.from_numpy(tokenizer.encode(short))[None]

    def say(sampling: Sampling, prompt: str = short, n: int = NEW_TOKENS) -> None:
        for _ in generate(model, tokenizer, prompt, max_new_tokens=n, sampling=sampling, n_alternatives=0):
            pass

    uncached = EagerGPT(config.model, n_vocab).take_weights(model).eval()
    things: dict[str, Callable[[], object]] = {
        **{f"tui-lab, {name}": lambda sampling=sampling: say(sampling) for name, sampling in SAMPLINGS.items()},  # type: ignore[misc]
        "loop without a cache, greedy": lambda: generate_uncached(uncached, ids, NEW_TOKENS),
        "first token": lambda: say(SAMPLINGS["temperature 0.8"], long, 1),
    }
    absent = {}
    try:
        peer = hugging_face_model(config, n_vocab, use_cache=True).eval()
        for name, choice in (
            ("greedy", {"do_sample": False}),
            ("temperature 0.8", {"do_sample": True, "top_k": 0, "temperature": 0.8}),
        ):
            things[f"Hugging Face, {name}"] = lambda choice=choice: peer.generate(  # type: ignore[misc]
                ids, attention_mask=torch.ones_like(ids), min_new_tokens=NEW_TOKENS, max_new_tokens=NEW_TOKENS,
                pad_token_id=0, use_cache=True, **choice)  # fmt: skip
    except Absent as error:
        absent["Hugging Face"] = str(error)
    times = _by_turns(things, rounds)
    first = times.pop("first token")
    return {
        "machine": machine(),
        "preset": preset,
        "prompt_tokens": len(ids[0]),
        "new_tokens": NEW_TOKENS,
        "rows": {name: _row(found, times["tui-lab, " + name.rpartition(", ")[2]]) for name, found in times.items()},
        "first_token_ms": {"prompt_tokens": len(tokenizer.encode(long)), "median": 1000 * statistics.median(first),
                           "largest": 1000 * max(first)},
        "absent": absent,
    }  # fmt: skip


def _row(seconds: list[float], ours: list[float]) -> dict[str, Any]:
    """ours_is_faster: against ours with the same sampling."""
    rates = sorted(NEW_TOKENS / s for s in seconds)
    low, _, high = statistics.quantiles(rates, n=4)
    return {
        "tokens_per_s": statistics.median(rates),
        "quartiles": [low, high],
        "ours_is_faster": statistics.median(b / a for a, b in zip(ours, seconds, strict=True)),
    }


def _by_turns(things: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in things}
    for turn in range(rounds + 1):
        for name, thing in things.items():
            began = time.perf_counter()
            with torch.inference_mode():
                thing()
            if turn:
                times[name].append(time.perf_counter() - began)
    return times


def _text(tokenizer: Any, ids: Any) -> str:
    from tui_lab.data.tokenizers import decode

    return decode(tokenizer, ids)

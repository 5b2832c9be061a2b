"""The cache that a model keeps in its own method `generate`, or `sample` and the like."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from tui_lab.core.doctor.checks.model.cache_finding import CacheDifference, Cause, cache_finding
from tui_lab.core.doctor.findings import Finding, NotApplicable, NotJudged
from tui_lab.core.doctor.measures.differences import Precision, relative_difference
from tui_lab.core.doctor.measures.generation import NEW_TOKENS, Generation, generation
from tui_lab.core.doctor.measures.generation_passes import Pass
from tui_lab.core.doctor.measures.inputs import sources
from tui_lab.core.doctor.program.target import Target
from tui_lab.core.doctor.program.tokens import logits_in

LONGEST_PROMPT = 6


def generate_findings(target: Target, methods: list[Callable[..., Any]]) -> Iterator[Finding]:
    """Judge the first method that generates tokens. Raises NotJudged for generate(), NotApplicable for other names."""
    if any(True for _ in sources(target)):
        raise NotApplicable("the model reads a source as well, and its own generation from one is not examined")
    problem: NotJudged | None = None
    for method in methods:
        target.model.eval()
        try:
            yield from _own_generation(target, method)
        except NotJudged as error:
            problem = problem or (error if getattr(method, "__name__", "generate") == "generate" else None)
            continue
        return
    if problem is not None:
        raise problem
    raise NotApplicable("no method of the model generates tokens from a prompt")


def _own_generation(target: Target, method: Callable[..., Any]) -> Iterator[Finding]:
    x = target.probe.x
    if x.shape[1] < NEW_TOKENS + 2:
        raise NotApplicable("rows are too short to continue them")
    prompt = x[:2, : min(LONGEST_PROMPT, x.shape[1] - NEW_TOKENS - 1)]
    with Precision() as precision:
        generated = generation(target, method, prompt)
        target.model.eval()  # The method may have ended with model.train().
        n_tokens = n_compared = 0
        for number, one in enumerate(generated.passes):
            end = _end_of(one, generated.tokens, n_tokens)
            if end is None:
                break
            n_tokens = end
            full = _full_pass(target, one.module, generated.tokens[:, :end])
            relative = relative_difference(one.logits[:, -1], full[:, -1])
            n_compared += 1
            if relative > precision.allowed:
                cause = _cause(target, method, prompt, generated, is_prompt=number == 0)
                yield cache_finding(CacheDifference(number, end, relative), cause)
                return
    if not n_compared:
        raise NotJudged("generate() makes no passes that could be compared with a full pass over its tokens")


def _end_of(one: Pass, tokens: Tensor, n_tokens: int) -> int | None:
    """Return how many tokens the model has seen after a pass; None if its ids are not the next or all tokens."""
    L = one.ids.shape[1]
    if n_tokens < L and torch.equal(one.ids, tokens[:, :L]):
        return L
    if n_tokens + L <= tokens.shape[1] and torch.equal(one.ids, tokens[:, n_tokens : n_tokens + L]):
        return n_tokens + L
    return None


def _full_pass(target: Target, module: nn.Module, tokens: Tensor) -> Tensor:
    """Return the logits [B, ·, V] of a pass without a cache."""
    try:
        return logits_in(module(tokens))
    except Exception as direct:
        try:
            return target.logits(tokens)
        except Exception:
            raise NotJudged(f"the model cannot be called with tokens alone: {direct}") from direct


def _cause(
    target: Target, method: Callable[..., Any], prompt: Tensor, generated: Generation, *, is_prompt: bool
) -> Cause:
    if is_prompt:
        return "leak" if _prompt_pass_leaks(target, method, prompt, generated.passes[0]) else ""
    return "restart" if _positions_restart(target, method, prompt) else ""


def _prompt_pass_leaks(target: Target, method: Callable[..., Any], prompt: Tensor, first: Pass) -> bool:
    """Return whether the prompt's last token changes the logits at earlier positions."""
    n = first.ids.shape[1]
    if first.logits.shape[1] != n or n < 2:
        return False
    other = prompt.clone()
    other[:, -1] = torch.where(prompt[:, -1] == prompt[:, 0], prompt[:, 1], prompt[:, 0])
    try:
        passes = generation(target, method, other).passes
    except NotJudged:
        return False
    before, after = first.logits[:, :-1].float(), passes[0].logits[:, :-1].float()
    return after.shape == before.shape and bool((after - before).abs().max() > 1e-5 * after.abs().max())


def _positions_restart(target: Target, method: Callable[..., Any], prompt: Tensor) -> bool:
    """Return whether each pass over one token looks up position 0 of a second table."""
    try:
        passes = generation(target, method, prompt[:1]).passes
    except NotJudged:
        return False
    restarts = [
        any(ids.numel() == 1 and int(ids) == 0 for ids in one.looked_up)
        for one in passes[1:]
        if one.ids.shape[1] == 1 and one.looked_up
    ]
    return len(restarts) > 1 and all(restarts)

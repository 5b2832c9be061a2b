"""Does generation with a key/value cache compute what the model computes without one?

The model's own `generate`, or `sample` and the like, runs for a few tokens, with every draw replaced by the most likely
token, and the logits of each of its passes are compared with those of a full pass over the same tokens. Models of
transformers are fed token by token with the cache that they return. Cost: two passes for each of a few tokens.
"""

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tui_lab.core.doctor.findings import Finding, NotApplicable, NotJudged
from tui_lab.core.doctor.measures.differences import Precision, relative_difference
from tui_lab.core.doctor.measures.generation import NEW_TOKENS, Generation, Pass, generating_methods, generation
from tui_lab.core.doctor.measures.inputs import sources
from tui_lab.core.doctor.measures.no_dropout import without_dropout
from tui_lab.core.doctor.program.target import Target
from tui_lab.core.doctor.program.tokens import logits_in

LONGEST_PROMPT = 6
CACHE_NAMES = ("cache", "past_key_values", "cache_params")
"""What transformers calls the cache that a forward pass takes and returns: from version 5.20, before, and of Mamba."""
SOURCE_NAMES = ("input_ids", "attention_mask", "inputs_embeds", "input_features", "input_values", "pixel_values")
"""What an encoder-decoder of transformers reads in addition to the decoder's ids."""


@dataclass(frozen=True)
class _Difference:
    """A pass whose last logits differ from those of a full pass over the same `n_tokens` tokens.

    number: of the pass; 0: the one over the prompt. relative: to the range of the logits.
    """

    number: int
    n_tokens: int
    relative: float


def check(target: Target) -> Iterator[Finding]:
    trial = target.fresh()
    trial.model.eval()
    methods = [method for method in generating_methods(trial.model) if not _is_of_library(method)]
    library_model = _library_model(trial.model)
    if not methods and library_model is None:
        raise NotApplicable("the model has no method generate and no cache of keys and values")
    with torch.no_grad(), without_dropout():
        try:
            yield from _own_cache(trial, methods)
        except (NotApplicable, NotJudged):
            if library_model is None:
                raise
            yield from _library_cache(trial, library_model)


def _is_of_library(method: Callable[..., Any]) -> bool:
    return str(getattr(method, "__module__", "")).startswith("transformers.")


# Models of transformers


def _library_model(model: nn.Module) -> nn.Module | None:
    """Return the first module of transformers' that maps ids to logits and takes and returns a cache."""
    for module in model.modules():
        parameters = set(inspect.signature(module.forward).parameters)
        is_of_library = any(cls.__module__.startswith("transformers.") for cls in type(module).__mro__)
        has_ids = bool({"input_ids", "decoder_input_ids"} & parameters)
        if is_of_library and has_ids and {"use_cache", "labels"} <= parameters and parameters.intersection(CACHE_NAMES):
            return module
    return None


def _library_cache(target: Target, model: nn.Module) -> Iterator[Finding]:
    """Judge a model of transformers. Raises NotJudged if it cannot be called with its cache."""
    try:
        yield from _continued(target, model)
    except (AttributeError, RuntimeError, TypeError, ValueError) as error:
        raise NotJudged(f"the model cannot be continued with its cache: {error}") from error


def _continued(target: Target, model: nn.Module) -> Iterator[Finding]:
    """Continue the first half of each row token by token."""
    name, ids, source = _library_call(target, model)
    T = ids.shape[1]
    if T < 3:
        raise NotApplicable("rows are too short to continue them")
    n_prompt = T // 2
    cache_name = next(each for each in CACHE_NAMES if each in inspect.signature(model.forward).parameters)
    with Precision() as precision:
        full = model(**source, **{name: ids}).logits
        output = model(**source, **{name: ids[:, :n_prompt]}, use_cache=True)
        for number, end in enumerate(range(n_prompt, T)):
            cache = getattr(output, cache_name, None)
            if cache is None:
                raise NotApplicable("the model returns no cache")
            relative = relative_difference(output.logits[:, -1], full[:, end - 1])
            if relative > precision.allowed:
                yield _differs(_Difference(number, end, relative))
                return
            output = model(**source, **{name: ids[:, end : end + 1], cache_name: cache}, use_cache=True)


def _library_call(target: Target, model: nn.Module) -> tuple[str, Tensor, dict[str, Any]]:
    """Return the name of the ids that are continued, the ids [B, T] of the probe, and the source of the decoder."""
    signature = inspect.signature(model.forward)
    if "decoder_input_ids" not in signature.parameters:
        return "input_ids", target.probe.x[:2], {}
    calls: list[dict[str, Any]] = []
    handle = model.register_forward_pre_hook(
        lambda _, args, kwargs: calls.append(signature.bind_partial(*args, **kwargs).arguments), with_kwargs=True
    )
    try:
        target.output(target.probe.batch)
    finally:
        handle.remove()
    arguments = {key: value for call in calls[:1] for key, value in call.items() if value is not None}
    ids = arguments.get("decoder_input_ids")
    if ids is None and "labels" in arguments and hasattr(model, "prepare_decoder_input_ids_from_labels"):
        ids = model.prepare_decoder_input_ids_from_labels(labels=arguments["labels"])  # type: ignore[operator]
    if ids is None:
        raise NotApplicable("the decoder is not called with ids")
    return "decoder_input_ids", ids, {key: arguments[key] for key in SOURCE_NAMES if key in arguments}


# A method `generate`


def _own_cache(target: Target, methods: list[Callable[..., Any]]) -> Iterator[Finding]:
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
                yield _differs(_Difference(number, end, relative), cause)
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


# What differs


def _cause(
    target: Target, method: Callable[..., Any], prompt: Tensor, generated: Generation, *, is_prompt: bool
) -> str:
    if is_prompt:
        return "leak" if _prompt_pass_leaks(target, method, prompt, generated.passes[0]) else ""
    return "restart" if _positions_restart(target, method, prompt) else ""


def _prompt_pass_leaks(target: Target, method: Callable[..., Any], prompt: Tensor, first: Pass) -> bool:
    """Whether the prompt's last token changes the logits at earlier positions."""
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
    """Whether each pass over one token looks up position 0 of a second table."""
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


def _differs(difference: _Difference, cause: str = "") -> Finding:
    title, fix = _CAUSES[cause or ("prompt" if difference.number == 0 else "token")]
    return Finding(
        code="cache_differs",
        title=title.format(number=difference.number),
        evidence=f"after {difference.n_tokens} tokens, the next token's logits differ from a full pass by "
        f"{difference.relative:.2g} of their range",
        why="The loss is computed without the cache, so it shows nothing of this; the generated text is wrong.",
        fix=fix,
    )


_CAUSES = {
    "prompt": (
        "With the cache, the pass over the prompt computes other logits than without it.",
        "Give the prompt's pass the same causal mask and positions as a pass without a cache.",
    ),
    "token": (
        "With the cache, generation computes other logits from its token {number} on.",
        "Append keys and values along the time axis, continue the positions (start = cached length), and mask nothing "
        "but padding for a single new token.",
    ),
    "leak": (
        "With the cache, the pass over the prompt has no causal mask: generation starts from states that saw later "
        "tokens.",
        "Mask the prompt's pass (prefill) as in training: of the rows of the causal mask, take those after the cached "
        "length.",
    ),
    "restart": (
        "In generation with the cache, positions start again at 0 with each new token.",
        "Continue the positions: torch.arange(start, start + T) with start = the number of cached tokens.",
    ),
}
"""The title and the fix for each known cause, and for a difference of another cause at the prompt or a later token."""

"""Does generation with a key/value cache compute what the model computes without one?

The model's own `generate`, or `sample` and the like, runs for a few tokens, with every draw replaced by the most likely
token, and the logits of each of its passes are compared with those of a full pass over the same tokens. Models of
transformers are fed token by token with their `past_key_values`. Cost: two passes for each of a few tokens.
"""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from tui_lab.core.doctor.findings import Finding, NotApplicable, NotJudged
from tui_lab.core.doctor.measures.dependence import without_dropout
from tui_lab.core.doctor.program.target import Target, seed_everything
from tui_lab.core.doctor.program.tokens import logits_in

NEW_TOKENS = 4
LONGEST_PROMPT = 6
TOLERANCE = 1e-3
"""Of the spread of the logits. Healthy caches in float32: 2e-7 to 5e-6; faulty ones: 0.02 to 1."""
LOW_PRECISION_TOLERANCE = 0.1
MAX_PASSES = 16
METHODS = ("generate", "sample", "complete", "continue", "decode")
"""Parts of the names of methods that may generate tokens."""
COUNTS = frozenset(("count", "n", "num", "n_samples", "num_samples", "batch_size", "n_rows", "how_many", "samples"))
"""Names of a first argument that is a number of rows or tokens, of a method that begins with tokens of its own."""
TOTAL_LENGTHS = frozenset(("max_len", "max_length", "max_seq_len", "length", "total_len", "target_len"))
NUMBERS = frozenset(
    ("n", "max_new_tokens", "max_new", "steps", "n_tokens", "num_tokens", "n_new", "new_tokens", "max_tokens",
     "seq_len", "count", "num", "num_new_tokens", "n_steps",
     "max_steps", "tokens_to_generate", "max_gen_len", "gen_len")
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class _Pass:
    """One pass of the model while it generates: ids [B, L], logits [B, ·, V], and other ids that it looked up."""

    module: nn.Module
    ids: Tensor
    logits: Tensor
    looked_up: tuple[Tensor, ...]


@dataclass(frozen=True)
class _Difference:
    """The first pass whose last logits differ from those of a full pass over the same `n_tokens` tokens.

    relative: to the spread of the logits.
    """

    number: int
    n_tokens: int
    relative: float


def check(target: Target) -> Iterator[Finding]:
    trial = target.fresh()
    trial.model.eval()
    cached = _cached_library_model(trial.model)
    if cached is not None:
        with torch.no_grad(), without_dropout():
            yield from _library_cache(trial, cached)
        return
    methods = list(_generating(trial.model))
    if not methods:
        raise NotApplicable("the model has no method generate and no cache of keys and values")
    with torch.no_grad(), without_dropout():
        yield from _first_that_runs(trial, methods)


# Models of transformers


def _cached_library_model(model: nn.Module) -> nn.Module | None:
    """Return the first module whose forward takes and returns past_key_values as transformers' decoders do."""
    for module in model.modules():
        parameters = inspect.signature(module.forward).parameters
        if {"input_ids", "past_key_values", "use_cache", "labels"} <= set(parameters):
            config = getattr(module, "config", None)
            return None if getattr(config, "is_encoder_decoder", False) else module
    return None


def _library_cache(target: Target, model: nn.Module) -> Iterator[Finding]:
    x = target.probe.x[:2]
    T = x.shape[1]
    if T < 3:
        raise NotApplicable("rows are too short to continue them")
    n_prompt = T // 2
    full = model(input_ids=x).logits.float()
    output = model(input_ids=x[:, :n_prompt], use_cache=True)
    if getattr(output, "past_key_values", None) is None:
        raise NotApplicable("the model returns no past_key_values")
    for position in range(n_prompt - 1, T - 1):
        relative = _relative(output.logits[:, -1].float(), full[:, position], target)
        if relative > 1:
            first = position == n_prompt - 1
            yield _differs(_Difference(0 if first else position - n_prompt + 1, position + 1, relative), first, ())
            return
        mask = torch.ones_like(x[:, : position + 2])
        step = x[:, position + 1 : position + 2]
        output = model(input_ids=step, attention_mask=mask, past_key_values=output.past_key_values, use_cache=True)


# A method `generate`


def _generating(model: nn.Module) -> Iterator[Callable[..., Any]]:
    """Yield the methods of the user's modules that may generate tokens: first those called generate."""
    named = []
    for module in model.modules():
        own = [cls for cls in type(module).__mro__ if not cls.__module__.startswith("torch.") and cls is not object]
        names = dict.fromkeys(name for cls in own for name in vars(cls) if any(part in name for part in METHODS))
        if "generate" in names or "generate" in vars(module):
            names = {"generate": None, **names}
        named += [(name != "generate", name, module) for name in names if not name.startswith("_")]
    for _, name, module in sorted(named, key=lambda each: each[0]):
        method = getattr(module, name, None)
        if callable(method) and not isinstance(method, nn.Module | type):
            yield method


def _first_that_runs(target: Target, methods: list[Callable[..., Any]]) -> Iterator[Finding]:
    """Judge the first method that generates tokens. Raises NotJudged for generate(), NotApplicable for other names."""
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
    passes, tokens = _generated(target, method, prompt)
    target.model.eval()  # It may have ended with model.train().
    compared = 0
    length = 0
    for number, one in enumerate(passes):
        end = _end_of(one, tokens, length)
        if end is None:
            break
        length = end
        full = _full_pass(target, one.module, tokens[:, :end])
        relative = _relative(one.logits[:, -1].float(), full[:, -1].float(), target)
        compared += 1
        if relative > 1:
            yield _judged(target, method, prompt, passes, _Difference(number, end, relative), tokens)
            return
    if not compared:
        raise NotJudged("generate() makes no passes that could be compared with a full pass over its tokens")


def _relative(one: Tensor, other: Tensor, target: Target) -> float:
    """Return the difference of two logits [B, V] relative to what is allowed."""
    is_low = next((p.dtype for p in target.model.parameters()), torch.float32) in (torch.bfloat16, torch.float16)
    spread = float((other.amax(dim=-1) - other.amin(dim=-1)).max().clamp(min=1e-6))
    return float((one - other).abs().max()) / spread / (LOW_PRECISION_TOLERANCE if is_low else TOLERANCE)


def _end_of(one: _Pass, tokens: Tensor, length: int) -> int | None:
    """Return how many tokens the model has seen after a pass; None if its ids are not the next or all tokens."""
    L = one.ids.shape[1]
    if length < L and torch.equal(one.ids, tokens[:, :L]):
        return L
    if length + L <= tokens.shape[1] and torch.equal(one.ids, tokens[:, length : length + L]):
        return length + L
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


def _generated(target: Target, method: Callable[..., Any], prompt: Tensor) -> tuple[list[_Pass], Tensor]:
    """Run generate() for some tokens; return its passes and all tokens [B, L]. Raises NotJudged if it cannot be run."""
    problem = ""
    rows = (prompt, prompt[:1], prompt[0], prompt[0].tolist())
    for ids in (len(prompt),) if _takes_count(method) else rows:
        seed_everything(target.seed)
        try:
            arguments = _arguments(method, ids, target.probe.x.shape[1])
            with _passes(target.model) as passes, _Greedy(passes):
                _run(method, arguments)
        except NotJudged:
            raise
        except Exception as error:
            problem = f"{type(error).__name__}: {error}"
            continue
        tokens = _all_tokens(passes)
        if tokens is not None:
            return list(passes), tokens
        problem = "its passes do not map ids to logits"
    raise NotJudged(f"generate() could not be run on a prompt of the batch: {problem}")


def _run(method: Callable[..., Any], arguments: dict[str, Any]) -> None:
    try:
        # A decorator may hide the names.
        result = method(*arguments.values()) if "" in arguments else method(**arguments)
        if inspect.isgenerator(result):
            list(result)
    except _EnoughError:
        pass


def _takes_count(method: Callable[..., Any]) -> bool:
    """Whether the first argument is a number, not a prompt."""
    return next(iter(inspect.signature(method).parameters), "") in COUNTS | NUMBERS


class _EnoughError(Exception):
    """Ends a generation after MAX_PASSES passes."""


def _arguments(method: Callable[..., Any], ids: Any, longest: int) -> dict[str, Any]:
    """Return arguments for generate(): the prompt, the number of tokens, and values for others that are required."""
    parameters = [
        p for p in inspect.signature(method).parameters.values() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]
    if not parameters:
        return {"": ids, "n": NEW_TOKENS}
    arguments: dict[str, Any] = {parameters[0].name: ids}
    for p in parameters[1:]:
        if p.name in NUMBERS:
            arguments[p.name] = NEW_TOKENS
        elif p.name in TOTAL_LENGTHS:
            arguments[p.name] = longest
        elif p.default is p.empty:
            arguments[p.name] = _value_for(p.name, longest, len(arguments) == 1)
    return arguments


def _value_for(name: str, longest: int, is_second: bool) -> Any:
    """Return a value for a required argument. Raises NotJudged if its meaning is unknown."""
    for part, value in (("temp", 1.0), ("top_k", 1), ("topk", 1), ("top_p", 1.0), ("sample", False), ("greedy", True),
                        ("eos", None), ("stop", None), ("context", longest), ("block", longest), ("cache", True),
                        ("device", None)):  # fmt: skip
        if part in name:
            return value
    if is_second:
        return NEW_TOKENS
    raise NotJudged(f"generate() needs an argument `{name}` of unknown meaning")


@contextmanager
def _passes(model: nn.Module) -> Iterator[list[_Pass]]:
    """Collect the outermost calls of modules that map ids to logits."""
    passes: list[_Pass] = []
    depth = [0]

    def enter(module: nn.Module, args: Any) -> None:
        depth[0] += 1
        if depth[0] == 1 and len(passes) >= MAX_PASSES:
            raise _EnoughError

    def leave(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        depth[0] -= 1
        ids = next((v for v in (*args, *kwargs.values()) if _is_ids(v)), None)
        if depth[0] or ids is None:
            return
        try:
            logits = logits_in(output)
        except (AttributeError, KeyError, TypeError, IndexError, ValueError):
            return
        if isinstance(logits, Tensor) and logits.is_floating_point() and logits.dim() in (2, 3):
            logits = logits if logits.dim() == 3 else logits[:, None]
            passes.append(_Pass(module, ids.clone(), logits.detach().clone(), ()))

    handles = []
    for module in model.modules():
        handles.append(module.register_forward_pre_hook(enter))
        handles.append(module.register_forward_hook(leave, with_kwargs=True, always_call=True))
    try:
        yield passes
    finally:
        for handle in handles:
            handle.remove()


def _is_ids(value: Any) -> bool:
    return isinstance(value, Tensor) and value.dim() == 2 and value.dtype in (torch.int64, torch.int32)


class _Greedy(TorchFunctionMode):
    """Replaces each draw by the most likely token, and keeps other ids that each pass looked up."""

    def __init__(self, passes: list[_Pass]) -> None:
        super().__init__()
        self._passes = passes
        self.looked_up: dict[int, list[Tensor]] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name == "multinomial":
            count = kwargs.get("num_samples", args[1] if len(args) > 1 else 1)
            return args[0].topk(count, dim=-1).indices
        if name == "exponential_":
            return args[0].fill_(1.0)
        if func is F.embedding and isinstance(args[0], Tensor):
            self.looked_up.setdefault(len(self._passes), []).append(args[0].clone())
        return func(*args, **kwargs)


def _all_tokens(passes: list[_Pass]) -> Tensor | None:
    """Return the tokens [B, L] that the passes have read, or None if there are none."""
    tokens: Tensor | None = None
    for one in passes:
        if tokens is None or one.ids.shape[1] > tokens.shape[1] and torch.equal(one.ids[:, : tokens.shape[1]], tokens):
            tokens = one.ids
        elif (
            one.ids.shape[0] == tokens.shape[0]
            and one.ids.shape[1] < tokens.shape[1]
            or one.ids.shape == (len(tokens), 1)
        ):
            tokens = torch.cat([tokens, one.ids], dim=1)
    return tokens


# What differs


def _judged(
    target: Target,
    method: Callable[..., Any],
    prompt: Tensor,
    passes: list[_Pass],
    difference: _Difference,
    tokens: Tensor,
) -> Finding:
    is_prompt = difference.number == 0
    if is_prompt and _prompt_pass_leaks(target, method, prompt, passes[0]):
        return _differs(difference, True, ("leak",))
    return _differs(difference, is_prompt, ("restart",) if _positions_restart(target, method, prompt) else ())


def _prompt_pass_leaks(target: Target, method: Callable[..., Any], prompt: Tensor, first: _Pass) -> bool:
    """Whether the prompt's last token changes the logits at earlier positions."""
    n = first.ids.shape[1]
    if first.logits.shape[1] != n or n < 2:
        return False
    other = prompt.clone()
    other[:, -1] = torch.where(prompt[:, -1] == prompt[:, 0], prompt[:, 1], prompt[:, 0])
    try:
        passes, _ = _generated(target, method, other)
    except NotJudged:
        return False
    after = passes[0].logits[:, :-1].float()
    return after.shape == first.logits[:, :-1].shape and bool(
        (after - first.logits[:, :-1].float()).abs().max() > 1e-5 * after.abs().max()
    )


def _positions_restart(target: Target, method: Callable[..., Any], prompt: Tensor) -> bool:
    """Whether each pass over one token looks up position 0 of a second table."""
    ids = len(prompt) if _takes_count(method) else prompt[:1]
    seed_everything(target.seed)
    try:
        with _passes(target.model) as passes, _Greedy(passes) as greedy:
            _run(method, _arguments(method, ids, target.probe.x.shape[1]))
    except Exception:  # Its first run, on two rows, has worked.
        return False
    zero = [
        any(looked.numel() == 1 and int(looked) == 0 and not torch.equal(looked, one.ids) for looked in own)
        for number, one in enumerate(passes)
        if one.ids.shape[1] == 1 and number and (own := greedy.looked_up.get(number))
    ]
    return len(zero) > 1 and all(zero)


def _differs(difference: _Difference, is_prompt: bool, causes: tuple[str, ...]) -> Finding:
    title = f"With the cache, generation computes other logits from its token {difference.number} on."
    fix = (
        "Append keys and values along the time axis, continue the positions (start = cached length), and mask nothing "
    )
    fix += "but padding for a single new token."
    if is_prompt:
        title = "With the cache, the pass over the prompt computes other logits than without it."
        fix = "Give the prompt's pass the same causal mask and positions as a pass without a cache."
    if "leak" in causes:
        title = "With the cache, the pass over the prompt has no causal mask: generation starts from states that saw "
        title += "later tokens."
        fix = "Mask the prompt's pass (prefill) as in training: of the rows of the causal mask, take those after the "
        fix += "cached length."
    elif "restart" in causes:
        title = "In generation with the cache, positions start again at 0 with each new token."
        fix = "Continue the positions: torch.arange(start, start + T) with start = the number of cached tokens."
    return Finding(
        code="cache_differs",
        title=title,
        evidence=f"after {difference.n_tokens} tokens, the next token's logits differ from a full pass by "
        f"{difference.relative * TOLERANCE:.2g} of their spread",
        why="The loss is computed without the cache, so it shows nothing of this; the generated text is wrong.",
        fix=fix,
    )

"""Runs a method of a model that writes tokens, such as generate or sample."""

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tui_lab.core.doctor.findings import NotJudged
from tui_lab.core.doctor.measures.generation_passes import EnoughPassesError, Pass, recorded_passes
from tui_lab.core.doctor.program.target import Target, seed_everything

NEW_TOKENS = 4
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
VALUES = (
    ("temp", 1.0), ("top_k", 1), ("topk", 1), ("top_p", 1.0), ("sample", False), ("greedy", True), ("eos", None),
    ("stop", None), ("cache", True), ("device", None),
)  # fmt: skip
"""Parts of the names of required arguments, and what they get."""


@dataclass(frozen=True, eq=False)
class Generation:
    """What a method did with a prompt. tokens: all tokens [B, L] that the passes have read."""

    passes: list[Pass]
    tokens: Tensor


def generating_methods(model: nn.Module) -> Iterator[Callable[..., Any]]:
    """Yield the methods of the user's modules that may generate tokens: first those called generate."""
    named = []
    for module in model.modules():
        user_classes = [
            cls for cls in type(module).__mro__ if not cls.__module__.startswith("torch.") and cls is not object
        ]
        names = dict.fromkeys(
            name for cls in user_classes for name in vars(cls) if any(part in name for part in METHODS)
        )
        if "generate" in names or "generate" in vars(module):
            names = {"generate": None, **names}
        named += [(name != "generate", name, module) for name in names if not name.startswith("_")]
    for _, name, module in sorted(named, key=lambda each: each[0]):
        method = getattr(module, name, None)
        if callable(method) and not isinstance(method, nn.Module | type):
            yield method


def generation(target: Target, method: Callable[..., Any], prompt: Tensor) -> Generation:
    """Run a method for some tokens, with each draw replaced by the most likely token.

    prompt: [B, L]; the method gets it as a whole, or one row of it in the form that it accepts. Raises NotJudged if the
    method cannot be run, or its passes do not map ids to logits.
    """
    problem = ""
    rows = (prompt, prompt[:1], prompt[0], prompt[0].tolist())
    for ids in (len(prompt),) if _takes_count(method) else rows:
        seed_everything(target.seed)
        try:
            arguments = _arguments(method, ids, target.probe.x.shape[1])
            with recorded_passes(target.model) as passes:
                _run(method, arguments)
        except NotJudged:
            raise
        except Exception as error:
            problem = f"{type(error).__name__}: {error}"
            continue
        if passes:
            return Generation(passes, _all_tokens(passes))
        problem = "its passes do not map ids to logits"
    raise NotJudged(f"generate() could not be run on a prompt of the batch: {problem}")


def _run(method: Callable[..., Any], arguments: dict[str, Any]) -> None:
    try:
        # A decorator may hide the names.
        result = method(*arguments.values()) if "" in arguments else method(**arguments)
        if inspect.isgenerator(result):
            list(result)
    except EnoughPassesError:
        pass


def _takes_count(method: Callable[..., Any]) -> bool:
    """Return whether the first argument is a number, not a prompt."""
    return next(iter(inspect.signature(method).parameters), "") in COUNTS | NUMBERS


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
            arguments[p.name] = _value_for(p.name, longest, is_second=len(arguments) == 1)
    return arguments


def _value_for(name: str, longest: int, *, is_second: bool) -> Any:
    """Return a value for a required argument. Raises NotJudged if its meaning is unknown."""
    for part, value in (*VALUES, ("context", longest), ("block", longest)):
        if part in name:
            return value
    if is_second:
        return NEW_TOKENS
    raise NotJudged(f"generate() needs an argument `{name}` of unknown meaning")


def _all_tokens(passes: list[Pass]) -> Tensor:
    """Return the tokens [B, L] that the passes have read."""
    tokens = passes[0].ids
    for one in passes[1:]:
        n, L = tokens.shape[1], one.ids.shape[1]
        if n < L and torch.equal(one.ids[:, :n], tokens):
            tokens = one.ids
        elif len(one.ids) == len(tokens) and (n > L or L == 1):
            tokens = torch.cat([tokens, one.ids], dim=1)
    return tokens

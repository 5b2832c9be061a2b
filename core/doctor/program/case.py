"""A training setup of a user, described for the doctor: a model, its batches, and what else is known."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from tui_lab.util.errors import ConfigError

DEFAULT_IGNORED = -100


@dataclass(frozen=True)
class Case:
    """What the doctor needs to know about a training setup; only `model` and `batches` are required.

    model: any torch.nn.Module.
    batches: one batch, an iterable of batches such as a DataLoader, or a function step → batch. A batch is whatever
        the training uses: (x, y), ((source, target), y), a dict, a tensor.
    loss: (model, batch) → the loss that is trained on, or (logits, y) → the loss; None: the model's own loss if it
        returns one, else the usual one: cross-entropy, or mean squared error for float targets.
    optimizer: one torch.optim.Optimizer or several; None: checks that need one are not judged.
    update: (model, optimizers, batch) or (model, optimizers, x, y) makes one update of the model that it is given, as
        your loop does; None: the usual five lines. What it keeps in variables of its own is shared by all trials.
    n_vocab: the tokenizer's vocabulary size.
    ignored: the target that the loss skips; the only negative one in the batches need not be named.
    rule: "next_token", or a function x → y that the task defines.
    pinned: how many examples are meant to be repeated.
    tied: whether the head may share the embedding's weights.
    trained: whether the model is no longer at its initial weights.
    dropout: the dropout rate that is meant to act; None: the largest rate of the model's dropout modules.
    validation: validation rows x [N, T], to look for leaks.
    causal: whether a position may see only itself and earlier ones.
    forward: (model, batch) → what the model returns; None: the usual ways to call a model are tried.
    evaluate: (model, batch) → anything: your evaluation step.
    generate: (model, ids [1, T], n) → ids [1, T + n]: your generation.
    """

    model: nn.Module
    batches: Any
    loss: Callable[..., Tensor] | None = None
    optimizer: Optimizer | Sequence[Optimizer] | None = None
    update: Callable[..., object] | None = None
    n_vocab: int | None = None
    ignored: int = DEFAULT_IGNORED
    rule: str | Callable[[Tensor], Tensor] | None = None
    pinned: int | None = None
    tied: bool = True
    trained: bool = False
    dropout: float | None = None
    validation: Tensor | None = None
    causal: bool = True
    forward: Callable[[nn.Module, Any], Any] | None = None
    evaluate: Callable[[nn.Module, Any], object] | None = None
    generate: Callable[..., Tensor] | None = None


def check_fields(case: Case) -> None:
    """Raise ConfigError for a field of the wrong type, with the field as its key."""
    rule = case.rule
    if not isinstance(case.model, nn.Module):
        raise _wrong_type("model", case.model, "a torch.nn.Module (an object, not its class)")
    if rule is not None and not callable(rule) and rule != "next_token":
        raise ConfigError.of(
            "invalid", "unknown rule", key="Case.rule", value=rule, allowed="'next_token', a function x → y"
        )
    for name in ("loss", "update", "forward", "evaluate", "generate"):
        value = getattr(case, name)
        if value is not None and not callable(value):
            raise _wrong_type(name, value, "a function, or None")
    _check_optimizer(case.optimizer)
    if case.validation is not None and (not isinstance(case.validation, Tensor) or case.validation.dim() != 2):
        raise _wrong_type("validation", case.validation, "a tensor of ids [N, T]")


def _check_optimizer(optimizer: Any) -> None:
    several = optimizer if isinstance(optimizer, list | tuple) else [optimizer]
    for one in several:
        if one is None or isinstance(one, Optimizer):
            continue
        inner = [name for name, value in getattr(one, "__dict__", {}).items() if isinstance(value, Optimizer)]
        if inner and not isinstance(one, type):
            message = (
                f"this is a {type(one).__name__}, which wraps an optimizer: pass the one inside, optimizer.{inner[0]}, "
                "and make your step in update=, a function (model, optimizers, batch)"
            )
            raise ConfigError.of("wrong_type", message, key="Case.optimizer", allowed="a torch.optim.Optimizer")
        raise _wrong_type("optimizer", optimizer, "a torch.optim.Optimizer, or a list of them")


def _wrong_type(field: str, value: Any, allowed: str) -> ConfigError:
    what = f"a tensor {list(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
    return ConfigError.of("wrong_type", f"this is {what}", key=f"Case.{field}", allowed=allowed)

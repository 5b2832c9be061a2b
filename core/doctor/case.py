"""A training setup from user code, described for the doctor: a model, its batches, and what else is known."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from tui_lab.core.doctor.batch import Batch
from tui_lab.core.doctor.findings import Report
from tui_lab.core.doctor.runner import examine as examine_target
from tui_lab.core.doctor.target import LossFunction, Pair, Target, Update, mean_cross_entropy
from tui_lab.core.doctor.target_rules import next_token
from tui_lab.core.doctor.tokens import logits_in
from tui_lab.util.errors import ConfigError

MAX_BATCHES = 64
"""Batches taken from an iterable, which may be endless."""
MIN_VALIDATION_TOKENS = 32
"""Shorter rows repeat by chance, so a leak cannot be told from chance."""


@dataclass(frozen=True)
class Case:
    """What the doctor needs to know about a training setup; only `model` and `batches` are required.

    model: int64 ids [B, T] → logits [B, T, V], or a tuple that starts with them, or an object with `.logits`.
    batches: one pair (x, y), an iterable of pairs such as a DataLoader, or a function step → (x, y).
    loss: (logits, y) → the loss that is trained on; None: torch's cross-entropy.
    optimizer: one or several; None: checks that need one are skipped.
    update: (model, optimizers, x, y) makes one update of the model that it is given, as your loop does; None: the usual
        five lines.
    n_vocab: the tokenizer's vocabulary size.
    ignored: the target that the loss skips.
    rule: "next_token", or a function x → y that the task defines.
    pinned: how many examples are meant to be repeated.
    tied: whether the head may share the embedding's weights.
    trained: whether the model is no longer at its initial weights.
    dropout: the dropout rate that is meant to act; None: the largest rate of the model's dropout modules.
    validation: validation rows x [N, T], to look for leaks.
    causal: whether a position may see only itself and earlier ones.
    """

    model: nn.Module
    batches: Pair | Iterable[Pair] | Callable[[int], Pair]
    loss: Callable[[Tensor, Tensor], Tensor] | None = None
    optimizer: Optimizer | Sequence[Optimizer] | None = None
    update: Callable[..., object] | None = None
    n_vocab: int | None = None
    ignored: int = -100
    rule: str | Callable[[Tensor], Tensor] | None = None
    pinned: int | None = None
    tied: bool = True
    trained: bool = False
    dropout: float | None = None
    validation: Tensor | None = None
    causal: bool = True


def examine(case: Case, *, on_check: Callable[[str], None] = lambda name: None) -> Report:
    """Diagnose a training setup; model and optimizers are left unchanged.

    `on_check` receives the name of each check before it runs. Raises ConfigError for a case with wrong fields.
    """
    return examine_target(target_from_case(case), on_check=on_check)


def target_from_case(case: Case) -> Target:
    """Return the target that `case` describes. Raises ConfigError for wrong fields, with the field as its key."""
    _check_fields(case)
    batch, varies = batches_of(case.batches)
    optimizers: list[Optimizer] = []
    if case.optimizer is not None:
        optimizers = [case.optimizer] if isinstance(case.optimizer, Optimizer) else list(case.optimizer)
    loss = case.loss
    return Target(
        model=case.model,
        optimizers=optimizers,
        batch=batch,
        forward=lambda model, batch: model(batch[0]),
        loss_function=_loss_function(case),
        output_loss=None if loss is None else lambda output, batch: loss(logits_in(output), batch[1]),
        update=_update(case),
        ignored=case.ignored,
        varies=varies,
        n_vocab=case.n_vocab,
        rule=next_token if case.rule == "next_token" else case.rule if callable(case.rule) else None,
        pinned=case.pinned,
        validation=_validation(case, batch),
        untied=None if case.tied else True,
        dropout=_dropout(case),
        untrained=not case.trained,
        causal=case.causal,
    )


def _update(case: Case) -> Update:
    """Return the case's update, or that of torch's tutorials: clear gradients, forward, backward, step."""
    own = case.update
    if own is not None:
        return lambda model, optimizers, batch: own(model, optimizers, *batch)
    loss_function = _loss_function(case)

    def update(model: nn.Module, optimizers: Sequence[Optimizer], batch: Batch) -> float:
        model.train()
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss = loss_function(model, batch) if loss_function else _cross_entropy(model, batch, case.ignored)
        loss.backward()  # type: ignore[no-untyped-call]
        for optimizer in optimizers:
            optimizer.step()
        return float(loss.detach())

    return update


def _cross_entropy(model: nn.Module, batch: Batch, ignored: int) -> Tensor:
    return mean_cross_entropy(logits_in(model(batch[0])), batch[1], ignored)


def batches_of(batches: Any) -> tuple[Callable[[int], Pair], bool]:
    """Return a function step → (x, y), and whether it can return different batches. Raises ConfigError."""
    if callable(batches) and not isinstance(batches, Tensor):
        return (lambda step: _pair(batches(step))), True
    if _is_pair(batches):
        pair = _pair(batches)
        return (lambda step: pair), False
    if isinstance(batches, Iterable) and not isinstance(batches, Tensor | str):
        pairs: list[Pair] = []
        for item in batches:
            pairs.append(_pair(item))
            if len(pairs) == MAX_BATCHES:
                break
        if not pairs:
            raise ConfigError.of("missing", "the iterable is empty", key="Case.batches")
        return (lambda step: pairs[step % len(pairs)]), len(pairs) > 1
    raise ConfigError.of(
        "wrong_type",
        f"this is a {type(batches).__name__}",
        key="Case.batches",
        allowed="a pair (x, y), an iterable of pairs such as a DataLoader, or a function step → (x, y)",
    )


def _check_fields(case: Case) -> None:
    """Raise ConfigError for a field of the wrong type."""
    optimizer, rule = case.optimizer, case.rule
    if not isinstance(case.model, nn.Module):
        raise _wrong_type("model", case.model, "a torch.nn.Module (an object, not its class)")
    if rule is not None and not callable(rule) and rule != "next_token":
        raise ConfigError.of(
            "invalid", "unknown rule", key="Case.rule", value=rule, allowed="'next_token', a function x → y"
        )
    for name in ("loss", "update"):
        value = getattr(case, name)
        if value is not None and not callable(value):
            raise _wrong_type(name, value, "a function, or None")
    several = [optimizer] if optimizer is None or isinstance(optimizer, Optimizer) else optimizer
    if not isinstance(several, Sequence) or not all(isinstance(one, Optimizer | None) for one in several):
        raise _wrong_type("optimizer", optimizer, "a torch.optim.Optimizer, or a list of them")
    if case.validation is not None and (not isinstance(case.validation, Tensor) or case.validation.dim() != 2):
        raise _wrong_type("validation", case.validation, "a tensor of ids [N, T]")


def _wrong_type(field: str, value: Any, allowed: str) -> ConfigError:
    what = f"a tensor {list(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
    return ConfigError.of("wrong_type", f"this is {what}", key=f"Case.{field}", allowed=allowed)


def _loss_function(case: Case) -> LossFunction | None:
    loss = case.loss
    return None if loss is None else lambda model, batch: loss(logits_in(model(batch[0])), batch[1])


def _is_pair(value: Any) -> bool:
    return isinstance(value, tuple | list) and len(value) == 2 and all(isinstance(t, Tensor) for t in value)


def _pair(batch: Any) -> Pair:
    """Return x and y as contiguous int64 [B, T], so that a model or loss may call view(-1). Raises ConfigError."""
    key = "Case.batches"
    if isinstance(batch, dict) and {"input_ids", "labels"} <= set(batch):
        batch = (batch["input_ids"], batch["labels"])
    if not _is_pair(batch):
        allowed = "a pair of tensors (x, y), or a dict with input_ids and labels"
        raise ConfigError.of("wrong_type", f"a batch is a {type(batch).__name__}", key=key, allowed=allowed)
    x, y = batch
    for name, ids in (("x", x), ("y", y)):
        if ids.dim() != 2 or ids.is_floating_point():
            what = f"{name} is {ids.dtype} {list(ids.shape)}"
            raise ConfigError.of("wrong_type", what, key=key, allowed="integer ids [B, T]")
    if x.shape != y.shape:
        shapes = f"x is {list(x.shape)} and y is {list(y.shape)}"
        raise ConfigError.of("invalid", shapes, key=key, allowed="x and y of the same shape")
    return x.long().contiguous(), y.long().contiguous()


def _dropout(case: Case) -> float | None:
    if case.dropout is not None:
        return case.dropout
    rates = [m.p for m in case.model.modules() if isinstance(m, nn.modules.dropout._DropoutNd)]
    return max(rates, default=None)


def _validation(case: Case, batch: Callable[[int], Pair]) -> Callable[[], tuple[int, int]] | None:
    """Compare whole rows, if they are long enough."""
    validation = case.validation
    if validation is None or validation.shape[1] < MIN_VALIDATION_TOKENS:
        return None

    def shared() -> tuple[int, int]:
        rows = {tuple(row) for step in range(MAX_BATCHES) for row in batch(step)[0].tolist()}
        return sum(tuple(row) in rows for row in validation.tolist()), len(validation)

    return shared

"""Anybody's training as a subject: a model, its batches, and what else is known of it."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from tui_lab.core.doctor.checks.targets import next_token
from tui_lab.core.doctor.findings import Report
from tui_lab.core.doctor.runner import examine as examine_subject
from tui_lab.core.doctor.target import Objective, Pair, Subject, Update, mean_cross_entropy
from tui_lab.core.user_code.external_model import logits_of
from tui_lab.util.errors import ConfigError

KEPT = 64
"""Batches taken from an iterable: a loader may go on for ever."""


@dataclass(frozen=True)
class Case:
    """What the doctor needs to know of a training; only `model` and `batches` must be given.

    model: int64 ids [B, T] → logits [B, T, V], or a tuple that begins with them, or an object with `.logits`.
    batches: one pair (x, y), an iterable of pairs such as a DataLoader, or a function step → (x, y).
    loss: (logits, y) → the loss that is trained on; None: torch's cross-entropy.
    optimizer: one, or several; None: checks of it are skipped.
    update: (model, optimizers, x, y) makes one update of the model it is given, as your loop does; None: the usual
        five lines.
    n_vocab: the tokenizer's size. ignored: the target that the loss leaves out.
    rule: "next_token", or x → y as the task means it. pinned: so many datapoints are meant to be repeated.
    tied: whether the head may share the embedding's weights. trained: no longer at its initial weights.
    validation: validation rows x [N, T], to look for leaks. causal: whether a position may see only what is before it.
    """

    model: nn.Module
    batches: Pair | Iterable[Pair] | Callable[[int], Pair]
    loss: Callable[[Tensor, Tensor], Tensor] | None = None
    optimizer: Optimizer | Sequence[Optimizer] | None = None
    update: Update | None = None
    n_vocab: int | None = None
    ignored: int = -100
    rule: str | Callable[[Tensor], Tensor] | None = None
    pinned: int | None = None
    tied: bool = True
    trained: bool = False
    dropout: float | None = None
    validation: Tensor | None = None
    causal: bool = True


def subject_of(case: Case) -> Subject:
    """Raises ConfigError for a case that cannot be one."""
    if not isinstance(case.model, nn.Module):
        raise ConfigError([f"Case.model = {type(case.model).__name__}: allowed is a torch.nn.Module"])
    if case.rule is not None and not callable(case.rule) and case.rule != "next_token":
        raise ConfigError([f"Case.rule = {case.rule!r}: allowed are 'next_token' or a function x → y"])
    batch, varies = batches_of(case.batches)
    optimizers: list[Optimizer] = []
    if case.optimizer is not None:
        optimizers = [case.optimizer] if isinstance(case.optimizer, Optimizer) else list(case.optimizer)
    loss = case.loss
    objective: Objective | None = None
    if loss is not None:
        objective = lambda model, x, y: loss(logits_of(model, x), y)  # noqa: E731
    return Subject(
        model=case.model,
        optimizers=optimizers,
        batch=batch,
        objective=objective,
        update=case.update or usual_update(objective, case.ignored),
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


def usual_update(objective: Objective | None, ignored: int) -> Update:
    """Forward, backward, step, in the order of torch's tutorials."""

    def update(model: nn.Module, optimizers: Sequence[Optimizer], x: Tensor, y: Tensor) -> float:
        model.train()
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss = objective(model, x, y) if objective else mean_cross_entropy(logits_of(model, x), y, ignored)
        loss.backward()  # type: ignore[no-untyped-call]
        for optimizer in optimizers:
            optimizer.step()
        return float(loss.detach())

    return update


def batches_of(given: Any) -> tuple[Callable[[int], Pair], bool]:
    """A function of the step, and whether it can vary. Raises ConfigError."""
    if callable(given) and not isinstance(given, Tensor):
        return (lambda step: _pair(given(step))), True
    if _is_pair(given):
        pair = _pair(given)
        return (lambda step: pair), False
    if isinstance(given, Iterable):
        kept: list[Pair] = []
        for item in given:
            kept.append(_pair(item))
            if len(kept) == KEPT:
                break
        if kept:
            return (lambda step: kept[step % len(kept)]), len(kept) > 1
    raise ConfigError(
        [f"Case.batches = {type(given).__name__}: allowed are (x, y), an iterable of pairs, or a function of the step"]
    )


def _is_pair(given: Any) -> bool:
    return isinstance(given, tuple | list) and len(given) == 2 and all(isinstance(t, Tensor) for t in given)


def _pair(given: Any) -> Pair:
    """x and y as contiguous int64 [B, T], which a model or loss may view(-1). Raises ConfigError."""
    if isinstance(given, dict) and {"input_ids", "labels"} <= set(given):
        given = (given["input_ids"], given["labels"])
    if not _is_pair(given):
        raise ConfigError([f"a batch is {type(given).__name__}: allowed is a pair of tensors x, y"])
    x, y = given
    for name, ids in (("x", x), ("y", y)):
        if ids.dim() != 2 or ids.is_floating_point():
            raise ConfigError([f"{name} is {ids.dtype} {list(ids.shape)}: allowed are integer ids [B, T]"])
    if x.shape != y.shape:
        raise ConfigError([f"x is {list(x.shape)} and y {list(y.shape)}: allowed are equal shapes"])
    return x.long().contiguous(), y.long().contiguous()


def _dropout(case: Case) -> float | None:
    """As told, or the largest rate of the model's dropout modules."""
    if case.dropout is not None:
        return case.dropout
    rates = [m.p for m in case.model.modules() if isinstance(m, nn.modules.dropout._DropoutNd)]
    return max(rates, default=None)


def _validation(case: Case, batch: Callable[[int], Pair]) -> Callable[[], tuple[int, int]] | None:
    """Compares whole rows; below 32 tokens they repeat by chance, so then there is no telling."""
    held_out = case.validation
    if held_out is None or held_out.shape[1] < 32:
        return None

    def shared() -> tuple[int, int]:
        rows = {tuple(row) for step in range(KEPT) for row in batch(step)[0].tolist()}
        return sum(tuple(row) in rows for row in held_out.tolist()), len(held_out)

    return shared


def examine(case: Case, *, watch: Callable[[str], None] = lambda name: None) -> Report:
    """Examine a training; model and optimizer are left as they were. Raises ConfigError for a case that is none.

    `watch` is told the name of each check before it begins.
    """
    return examine_subject(subject_of(case), watch=watch)

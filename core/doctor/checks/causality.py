"""What each position sees: itself and what stands before it, and nothing of other rows.

By gradient: ∂logits[0, t] / ∂embedding[b, s] must be 0 for s > t and for b ≠ 0. By exchange: other tokens after t must
not change the logits up to t, which also finds what has no gradient. Cost: a backward pass a position, at most 16.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from tui_lab.core.doctor.findings import Finding, Skip
from tui_lab.core.doctor.target import ROWS, Probe, Subject
from tui_lab.core.model import set_dropout
from tui_lab.core.training.optim_without_dynamo import Adam

NOTHING = 1e-6
"""Of the largest gradient or logit: rounding reaches about 1e-7 in float32, a mistake the size of the logits."""
WAKING_UPDATES = 8
"""After which weights that began at zero pass something on."""


def check(subject: Subject, probe: Probe) -> Iterator[Finding]:
    with subject.evaluating():
        asleep = _blind(subject, probe.x) or not _past_counts(subject, probe.x)
    if asleep:
        # Weights may begin at zero on purpose: after some updates they show what they see.
        subject = _woken(subject)
    with subject.evaluating():
        if _blind(subject, probe.x):
            yield _input_ignored()
            return
        ahead = _exchanged_future(subject, probe.x)
        past = _past_counts(subject, probe.x)
        influence = _influence(subject, probe.x)
    if _rows_mix(subject, probe.x, influence):
        yield _mixing()
        if not ahead:
            return
    if subject.causal:
        yield from _along_the_row(influence, ahead, past)


def _along_the_row(influence: tuple[Tensor, Tensor] | None, ahead: int, past: bool) -> Iterator[Finding]:
    if influence is None:
        if ahead:
            yield _leak((), ahead)
        elif not past:
            yield _no_context(())
        else:
            raise Skip("no embedding module was found to take gradients at; exchanged tokens showed nothing wrong")
        return
    own, _ = influence  # [T, T]
    future = own.triu(diagonal=1) > NOTHING * own.max().clamp(min=1e-30)
    if ahead or bool(future.any()):
        reach = max(int(s - t) for t, s in future.nonzero().tolist()) if bool(future.any()) else ahead
        yield _leak(_picture(own), reach)
    elif not past:
        yield _no_context(_picture(own))


def _rows_mix(subject: Subject, x: Tensor, influence: tuple[Tensor, Tensor] | None) -> bool:
    """By exchange, in evaluation and, where a batch norm is, in training; and by gradient."""
    if len(x) < 2:
        return False
    with subject.evaluating():
        if _exchanged_rows(subject, x):
            return True
    if any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in subject.model.modules()):
        trial = subject.fresh()
        trial.model.train()
        set_dropout(trial.model, 0.0)
        if _exchanged_rows(trial, x):
            return True
    if influence is None:
        return False
    own, others = influence
    return bool((others > NOTHING * own.max().clamp(min=1e-30)).any())


def _past_counts(subject: Subject, x: Tensor) -> bool:
    """Whether other tokens in the first half change the logits in the second."""
    middle = x.shape[1] // 2
    if not middle:
        return True
    other = torch.cat([_other_tokens(subject, x)[:, :middle], x[:, middle:]], dim=1)
    with torch.no_grad():
        return _differ(subject.logits(x)[:, middle:], subject.logits(other)[:, middle:])


def _woken(subject: Subject) -> Subject:
    """A copy after some updates of an optimizer of our own."""
    trial = subject.fresh()
    optimizer = Adam([p for p in trial.model.parameters() if p.requires_grad] or [torch.zeros(1)], lr=1e-3)
    for step in range(WAKING_UPDATES):
        x, y = (part[:ROWS].to(trial.device) for part in trial.batch(step))
        optimizer.zero_grad()
        loss = trial.loss(x, y)
        if loss.requires_grad:
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return trial


def _blind(subject: Subject, x: Tensor) -> bool:
    with torch.no_grad():
        return torch.allclose(subject.logits(x), subject.logits(_other_tokens(subject, x)), rtol=1e-6, atol=1e-7)


def _other_tokens(subject: Subject, x: Tensor) -> Tensor:
    """x with every token another one, of those that occur."""
    seen = torch.unique(x)
    if len(seen) < 2:
        seen = torch.arange(min(int(seen[0]), 1), int(seen[0]) + 1, device=x.device)
    other: Tensor = seen[(torch.searchsorted(seen, x.contiguous()) + 1) % len(seen)]
    return other


def _exchanged_future(subject: Subject, x: Tensor) -> int:
    """How far ahead a position sees, by exchanging what follows the middle; 0: not at all."""
    middle = x.shape[1] // 2
    other = torch.cat([x[:, :middle], _other_tokens(subject, x)[:, middle:]], dim=1)
    with torch.no_grad():
        a, b = subject.logits(x)[:, :middle], subject.logits(other)[:, :middle]
    return 1 if middle and _differ(a, b) else 0


def _exchanged_rows(subject: Subject, x: Tensor) -> bool:
    """Whether the first or the last row's logits change when the others do: a recurrent net may look one way only."""
    for kept in (0, len(x) - 1):
        other = _other_tokens(subject, x).clone()
        other[kept] = x[kept]
        with torch.no_grad():
            if _differ(subject.logits(x)[kept], subject.logits(other)[kept]):
                return True
    return False


def _differ(a: Tensor, b: Tensor) -> bool:
    return bool((a - b).abs().max() > 1e-4 * a.abs().max().clamp(min=1e-3))


def _influence(subject: Subject, x: Tensor) -> tuple[Tensor, Tensor] | None:
    """Sizes of the gradients of row 0's logits at t: to its own embedding at s [T, T], and to other rows' [T]."""
    leaves: list[Tensor] = []

    def cut(module: nn.Module, inputs: Any, output: Tensor) -> Tensor | None:
        ids = inputs[0] if inputs else None
        if leaves or not isinstance(ids, Tensor) or ids.shape != x.shape or not torch.equal(ids, x):
            return None
        leaves.append(output.detach().requires_grad_())
        return leaves[0]

    embeddings = [m for m in subject.model.modules() if isinstance(m, nn.Embedding)]
    handles = [module.register_forward_hook(cut, prepend=True) for module in embeddings]
    try:
        logits = subject.logits(x)
    finally:
        for handle in handles:
            handle.remove()
    if not leaves or not logits.requires_grad:
        return None
    direction = torch.randn(logits.shape[2], generator=torch.Generator().manual_seed(0)).to(logits)
    scores = logits[0].float() @ direction.float()  # [T]
    own, others = [], []
    for t in range(len(scores)):
        [gradient] = torch.autograd.grad(scores[t], leaves, retain_graph=True, allow_unused=True)
        size = torch.zeros(x.shape) if gradient is None else gradient.norm(dim=-1).cpu()  # [B, T]
        own.append(size[0])
        others.append(size[1:].sum())
    return torch.stack(own), torch.stack(others)


def _picture(own: Tensor) -> tuple[str, ...]:
    """Rows t, columns s: what the logits at t depend on."""
    most = own.max().clamp(min=1e-30)
    signs = [["█" if v > 0.1 * most else "▒" if v > NOTHING * most else "·" for v in row] for row in own]
    return ("rows: logits at t; columns: input at s; █ ▒ depends, · does not",
            *("".join(row) + f"  t={t}" for t, row in enumerate(signs)))  # fmt: skip


def _leak(drawing: tuple[str, ...], reach: int) -> Finding:
    far = "one position ahead" if reach == 1 else f"up to {reach} positions ahead"
    return Finding(
        "causal_leak",
        f"Each position sees the future: {far}.",
        "∂logits[t] / ∂x[s] is not 0 for some s > t, or other tokens after t change the logits at t",
        "The model reads the answer off its input: the loss falls to nothing, and generation says nonsense.",
        "Mask the scores above the diagonal with -inf before the softmax, over the keys; check the mask's diagonal and "
        "every view that splits or joins heads.",
        drawing=drawing,
    )


def _no_context(drawing: tuple[str, ...]) -> Finding:
    return Finding(
        "no_context",
        "Each position sees itself alone.",
        "other tokens in the first half leave the logits of the second as they are",
        "Without what came before, the best possible model is one of token pairs.",
        "Look whether the output of attention is added back, and whether the mask is upside down.",
        drawing=drawing,
        explains=("dead_relus",),
    )


def _mixing() -> Finding:
    return Finding(
        "batch_mixing",
        "The rows of a batch see each other.",
        "the logits of row 0 depend on the tokens of other rows",
        "What a model says then depends on its neighbours; validation and generation see other neighbours.",
        "Look for a view or mean over the batch dimension, and for batch norm; normalise over features.",
    )


def _input_ignored() -> Finding:
    return Finding(
        "input_ignored",
        "The model does not see its input.",
        "other tokens give the same logits",
        "It can learn nothing but how frequent each token is.",
        "Follow the embedding to the first layer: is it used, and not multiplied by zero?",
        explains=("missing_gradient", "no_context", "no_positions"),
    )

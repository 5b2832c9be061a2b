"""Does each position see itself and earlier positions of its own row, and nothing else?

By gradient: ∂logits[0, t] / ∂embedding[b, s] must be 0 for s > t and for b ≠ 0. By exchange: changing tokens after t
must not change the logits up to t, which also finds dependencies without a gradient. Cost: a backward pass for each
position, at most 16.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from tui_lab.core.doctor.findings import Finding, NotJudged
from tui_lab.core.doctor.target import PROBE_ROWS, Target, trial_rows
from tui_lab.core.model import set_dropout
from tui_lab.core.training.optim_without_dynamo import Adam

GRADIENT_TOLERANCE = 1e-6
"""Of the largest gradient: float32 rounding reaches about 1e-7, a real dependency is of the order of the logits."""
WARM_UP_UPDATES = 8
"""After these, weights that start at zero pass something on."""


def check(target: Target) -> Iterator[Finding]:
    x = target.probe.x
    with target.evaluating():
        inert = _ignores_input(target, x) or not _sees_past(target, x)
    if inert:
        # Weights may start at zero on purpose; after some updates they show what they see.
        target = _warmed_up(target)
    with target.evaluating():
        if _ignores_input(target, x):
            yield _input_ignored()
            return
        sees_future = _sees_future(target, x)
        sees_past = _sees_past(target, x)
        influence = _influence(target, x)
    if _rows_mix(target, x, influence):
        yield _batch_mixing()
        if not sees_future:
            return
    if target.causal:
        yield from _along_the_row(influence, sees_future, sees_past)


def _along_the_row(influence: tuple[Tensor, Tensor] | None, sees_future: bool, sees_past: bool) -> Iterator[Finding]:
    if influence is None:
        if sees_future:
            yield _causal_leak(None, ())
        elif not sees_past:
            yield _no_context(())
        else:
            raise NotJudged("no embedding module was found to take gradients at, and changing tokens showed no problem")
        return
    own, _ = influence  # [T, T]
    future = own.triu(diagonal=1) > GRADIENT_TOLERANCE * own.max().clamp(min=1e-30)
    if bool(future.any()):
        reach = max(int(s - t) for t, s in future.nonzero().tolist())
        yield _causal_leak(reach, _picture(own))
    elif sees_future:
        yield _causal_leak(None, _picture(own))
    elif not sees_past:
        yield _no_context(_picture(own))


def _rows_mix(target: Target, x: Tensor, influence: tuple[Tensor, Tensor] | None) -> bool:
    """By exchange in evaluation mode, and in training mode if there is a batch norm; and by gradient."""
    if len(x) < 2:
        return False
    with target.evaluating():
        if _depends_on_other_rows(target, x):
            return True
    if any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in target.model.modules()):
        trial = target.fresh()
        trial.model.train()
        set_dropout(trial.model, 0.0)
        if _depends_on_other_rows(trial, x):
            return True
    if influence is None:
        return False
    own, others = influence
    return bool((others > GRADIENT_TOLERANCE * own.max().clamp(min=1e-30)).any())


def _sees_past(target: Target, x: Tensor) -> bool:
    """Return whether changing tokens in the first half changes the logits in the second half."""
    middle = x.shape[1] // 2
    if not middle:
        return True
    other = torch.cat([_other_tokens(x)[:, :middle], x[:, middle:]], dim=1)
    with torch.no_grad():
        return _differ(target.logits(x)[:, middle:], target.logits(other)[:, middle:])


def _sees_future(target: Target, x: Tensor) -> bool:
    """Return whether changing tokens in the second half changes the logits in the first half."""
    middle = x.shape[1] // 2
    if not middle:
        return False
    other = torch.cat([x[:, :middle], _other_tokens(x)[:, middle:]], dim=1)
    with torch.no_grad():
        return _differ(target.logits(x)[:, :middle], target.logits(other)[:, :middle])


def _warmed_up(target: Target) -> Target:
    """Return a copy after some updates by an optimizer of our own."""
    trial = target.fresh()
    optimizer = Adam([p for p in trial.model.parameters() if p.requires_grad] or [torch.zeros(1)], lr=1e-3)
    for step in range(WARM_UP_UPDATES):
        optimizer.zero_grad()
        loss = trial.loss(trial_rows(trial.batch(step), PROBE_ROWS, whole=trial.fixed_shape))
        if loss.requires_grad:
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return trial


def _ignores_input(target: Target, x: Tensor) -> bool:
    with torch.no_grad():
        return torch.allclose(target.logits(x), target.logits(_other_tokens(x)), rtol=1e-6, atol=1e-7)


def _other_tokens(x: Tensor) -> Tensor:
    """Replace every token by another one of those that occur in x."""
    present = torch.unique(x)
    if len(present) < 2:
        present = torch.arange(min(int(present[0]), 1), int(present[0]) + 1, device=x.device)
    other: Tensor = present[(torch.searchsorted(present, x.contiguous()) + 1) % len(present)]
    return other


def _depends_on_other_rows(target: Target, x: Tensor) -> bool:
    """Return whether the first or last row's logits change with the others: a recurrent net may look one way only."""
    for row in (0, len(x) - 1):
        other = _other_tokens(x).clone()
        other[row] = x[row]
        with torch.no_grad():
            if _differ(target.logits(x)[row], target.logits(other)[row]):
                return True
    return False


def _differ(a: Tensor, b: Tensor) -> bool:
    return bool((a - b).abs().max() > 1e-4 * a.abs().max().clamp(min=1e-3))


def _influence(target: Target, x: Tensor) -> tuple[Tensor, Tensor] | None:
    """Return gradient norms of row 0's logits at t: to its own embedding at s [T, T], and to all other rows' [T].

    None if no embedding module receives x.
    """
    leaves: list[Tensor] = []

    def cut(module: nn.Module, inputs: Any, output: Tensor) -> Tensor | None:
        ids = inputs[0] if inputs else None
        if leaves or not isinstance(ids, Tensor) or ids.shape != x.shape or not torch.equal(ids, x):
            return None
        leaves.append(output.detach().requires_grad_())
        return leaves[0]

    embeddings = [m for m in target.model.modules() if isinstance(m, nn.Embedding)]
    handles = [module.register_forward_hook(cut, prepend=True) for module in embeddings]
    try:
        logits = target.logits(x)
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
        norms = torch.zeros(x.shape) if gradient is None else gradient.norm(dim=-1).cpu()  # [B, T]
        own.append(norms[0])
        others.append(norms[1:].sum())
    return torch.stack(own), torch.stack(others)


def _picture(own: Tensor) -> tuple[str, ...]:
    """Draw which inputs s (columns) the logits at t (rows) depend on."""
    largest = own.max().clamp(min=1e-30)

    def sign(norm: Tensor) -> str:
        return "█" if norm > 0.1 * largest else "▒" if norm > GRADIENT_TOLERANCE * largest else "·"

    return (
        "rows: logits at t; columns: input at s; █ ▒ depends, · does not",
        *("".join(map(sign, row)) + f"  t={t}" for t, row in enumerate(own)),
    )


def _causal_leak(reach: int | None, drawing: tuple[str, ...]) -> Finding:
    """reach: how many positions ahead a gradient reaches; None: no gradient shows it, only exchanged tokens."""
    if reach is None:
        evidence = "changing tokens after t changes the logits at t"
    else:
        evidence = f"∂logits[t] / ∂x[s] is not 0 for s up to t + {reach}"
    return Finding(
        code="causal_leak",
        title="Each position sees later positions.",
        evidence=evidence,
        why="The model reads the answer from its input: the loss falls to zero, and generated text is meaningless.",
        fix="Set the scores above the diagonal to -inf before a softmax over the keys. Check the mask's diagonal, and "
        "every view that splits or merges heads.",
        drawing=drawing,
    )


def _no_context(drawing: tuple[str, ...]) -> Finding:
    return Finding(
        code="no_context",
        title="Each position sees only itself.",
        evidence="changing tokens in the first half doesn't change the logits in the second half",
        why="Without context, the model can only learn bigram statistics.",
        fix="Check that the attention output is added back, and that the mask is not inverted.",
        drawing=drawing,
        explains=("dead_relus",),
    )


def _batch_mixing() -> Finding:
    return Finding(
        code="batch_mixing",
        title="The rows of a batch influence each other.",
        evidence="the logits of one row depend on the tokens of other rows",
        why="Results depend on which rows share a batch; validation and generation use different batches than training "
        "does.",
        fix="Look for a view or a mean over the batch dimension, and for batch norm; normalize over features instead.",
    )


def _input_ignored() -> Finding:
    return Finding(
        code="input_ignored",
        title="The model ignores its input.",
        evidence="changing the tokens doesn't change the logits",
        why="It can only learn how frequent each token is.",
        fix="Follow the embedding to the first layer: is it used, and is it multiplied by zero?",
        explains=("missing_gradient", "no_context", "no_positions"),
    )

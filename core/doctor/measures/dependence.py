"""Which positions and rows the logits depend on, measured by exchanging one token at a time."""

from dataclasses import dataclass

import torch
from torch import Tensor

from tui_lab.core.doctor.measures.attention_record import AttentionRecord
from tui_lab.core.doctor.measures.attention_recorder import record_attention
from tui_lab.core.doctor.measures.trained_targets import label_shift
from tui_lab.core.doctor.program.target import PROBE_ROWS, Target, trial_rows
from tui_lab.core.doctor.program.target_rules import UNKNOWN, next_token
from tui_lab.core.training.optim_without_dynamo import Adam

AGREEMENT = 0.9
"""Fraction of the counted targets that are the next tokens, in a model that predicts them."""
WARM_UP_UPDATES = 8
"""After these, weights that start at zero pass something on."""
MAX_POSITIONS = 24
"""Tokens that are exchanged in a row, one forward pass each: enough to see any pattern, since the rest repeats it."""
DRAWN = 16
"""Positions that are drawn, the first ones of the row."""
TOLERANCE = 1e-6
"""Of the largest effect of any token. No dependency: 0 to 2e-8. A mask after the softmax: 1e-3 and more."""


@dataclass(frozen=True, eq=False)
class Dependence:
    """How much the logits change with the tokens of one row.

    own: the largest change of a logit at position t of the row when its token at s is exchanged, [T (t), T (s)]; 0 at
    the positions s of a long row that were not tried.
    others: the same in all other rows, the largest over them, [T (t), T (s)]; None: there is only one row.
    counted: whether the prediction at t counts in the loss, [T].
    """

    own: Tensor
    others: Tensor | None
    counted: Tensor

    @property
    def largest(self) -> float:
        """The largest effect of a token on its own row."""
        return max(float(self.own.max()), 1e-30)

    @property
    def future(self) -> Tensor:
        """Where a counted position depends on a later one, bool [T (t), T (s)]."""
        depends = self.own.triu(diagonal=1) > TOLERANCE * self.largest
        return depends & self.counted[:, None]

    @property
    def mixes_rows(self) -> bool:
        """Whether other rows depend on this one."""
        return self.others is not None and float(self.others.max()) > TOLERANCE * self.largest

    def drawing(self) -> tuple[str, ...]:
        """Draw which tokens s (columns) the logits at t (rows) depend on."""

        def sign(effect: Tensor) -> str:
            return "█" if effect > 0.1 * self.largest else "▒" if effect > TOLERANCE * self.largest else "·"

        return (
            "rows: logits at t; columns: token at s; █ depends, ▒ by less than 10 % of the largest, · does not",
            *("".join(map(sign, row[:DRAWN])) + f"  t={t}" for t, row in enumerate(self.own[:DRAWN])),
        )


def record_probe(target: Target) -> AttentionRecord:
    """Record the pass of any program's probe, in the model's present mode. Propagates the model's exceptions."""
    if target.tokens is None:
        return record_attention(target.model, lambda: target.output(target.probe.batch))
    x = target.probe.x
    return record_attention(target.model, lambda: target.logits(x), x)


def dependence(target: Target) -> Dependence:
    """Exchange tokens of the probe's row with the most counted targets. Cost: a forward pass for each of them."""
    x = target.probe.x
    counted = counted_predictions(target)
    row = int(counted.sum(dim=1).argmax())
    changed = other_tokens(x, counted)
    T = x.shape[1]
    own_changes = torch.zeros(T, T)
    others = torch.zeros(T, T)
    with torch.no_grad():
        before = target.logits(x).float()
        for s in tried_positions(T):
            exchanged = x.clone()
            exchanged[row, s] = changed[row, s]
            effects = (target.logits(exchanged).float() - before).nan_to_num(0.0).abs().amax(dim=-1).cpu()  # [B, T]
            own_changes[:, s] = effects[row]
            if len(x) > 1:
                others[:, s] = effects[torch.arange(len(x)) != row].amax(dim=0)
    return Dependence(own_changes, others if len(x) > 1 else None, counted[row].cpu())


def tried_positions(length: int) -> list[int]:
    """Return the positions of a row whose tokens are exchanged: all, or of a long row the first and some later ones."""
    if length <= MAX_POSITIONS:
        return list(range(length))
    later = torch.linspace(DRAWN, length - 1, MAX_POSITIONS - DRAWN).round().int().tolist()
    return [*range(DRAWN), *later]


def counted_predictions(target: Target) -> Tensor:
    """Return where the logits count in the loss, bool [B, T]; everywhere if the targets are unknown."""
    x = target.probe.x
    tokens = target.tokens
    everywhere = torch.ones_like(x, dtype=torch.bool)
    if tokens is None or tokens.y is None:
        return everywhere
    y = target.probe.y
    counted = y != target.ignored
    if trained_offset(target) == 0:  # The loss shifts: logits at t predict y[t+1].
        counted = torch.cat([counted[:, 1:], torch.zeros_like(counted[:, :1])], dim=1)
    return counted if bool(counted.any()) else everywhere


def trained_offset(target: Target) -> int | None:
    """Return 1 if targets are the next tokens, 0 if they are the inputs (which the loss may shift), None if neither."""
    tokens = target.tokens
    if tokens is None or tokens.y is None:
        return 1
    x, y = target.probe.x, target.probe.y
    for offset, expected in ((1, next_token(x)), (0, x)):
        compared = (expected != UNKNOWN) & (y != target.ignored)
        if not compared.any():
            return 1
        if float((expected == y)[compared].float().mean()) > AGREEMENT:
            return offset
    return 1 if target.rule is next_token and not label_shift(target) else None


def other_tokens(x: Tensor, counted: Tensor) -> Tensor:
    """Replace every token by another one of those in x, if possible of those at counted positions: not by padding."""
    present = torch.unique(x[counted]) if bool(counted.any()) else torch.unique(x)
    if len(present) < 2:
        present = torch.unique(x)
    if len(present) < 2:
        present = torch.arange(min(int(present[0]), 1), int(present[0]) + 1, device=x.device)
    index = torch.searchsorted(present, x.contiguous()) + 1
    other: Tensor = present[index % len(present)]
    return torch.where(other == x, present[(index + 1) % len(present)], other)


def warmed_up(target: Target) -> Target:
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

"""The findings of the check of the targets, with the first row drawn in columns."""

from torch import Tensor

from tui_lab.core.doctor.checks.data.masked_copies import MaskedCopies
from tui_lab.core.doctor.checks.data.swapped_rows import SwappedRows
from tui_lab.core.doctor.checks.data.unused_ends import UnusedEnds
from tui_lab.core.doctor.findings import Finding
from tui_lab.core.doctor.measures.trained_targets import TrainedTargets
from tui_lab.core.doctor.program.target import Target
from tui_lab.core.doctor.program.target_rules import UNKNOWN, next_token

DRAWN = 12
"""Positions of a row that are drawn."""


def wrapped_shift(target: Target, x: Tensor, y: Tensor) -> Finding:
    """Return a finding on targets that torch.roll moved over the end of the row."""
    return Finding(
        code="shifted_targets",
        title="The shift wraps around: each row's last target is its first token.",
        evidence=f"y[-1] = x[0] in all {len(x)} rows, as torch.roll(x, -1) returns",
        why="One target per row is meaningless, and its loss never falls.",
        fix="Cut rows of T + 1 tokens: x = tokens[:-1], y = tokens[1:].",
        drawing=_drawn_rows(target, x[:, -8:], y[:, -8:]),
    )


def copied_targets(
    target: Target, trained: TrainedTargets, x: Tensor, y: Tensor, *, sees_only_earlier: bool
) -> Finding:
    """Return a finding, or a hint if the model sees later positions, so that it may reconstruct its input."""
    n = int((y != target.ignored).sum())
    return Finding(
        code="copied_targets",
        kind="finding" if sees_only_earlier else "hint",
        title="The targets equal the inputs: y[t] = x[t].",
        evidence=f"{n:,} counted targets equal the input at their own position; {_place_of_shift(trained)}",
        why="The model learns to copy its input: the loss falls to zero, but it cannot predict the next token.",
        fix="Shift by one: x = tokens[:-1], y = tokens[1:]."
        if sees_only_earlier
        else "If the model should predict the next token, it needs a causal mask and targets that are shifted by one; "
        "if it should reconstruct its input, nothing.",
        location=_line(trained),
        drawing=_drawn_rows(target, x, y),
    )


def copied_beside_masks(target: Target, x: Tensor, y: Tensor, copies: MaskedCopies) -> Finding:
    """Return a hint on a masked language model that is trained on the ids that it sees, too."""
    return Finding(
        code="copied_targets",
        kind="hint",
        title=f"{copies.share:.0%} of the targets that count are copies of the model's own input.",
        evidence=f"most of the other positions have the id {target.show(copies.mask)} as input, which is never a "
        "target: the mask of a masked language model; its unmasked positions count, too",
        why="The model sees these ids, so copying makes the loss look low and leaves little gradient for the masked "
        "ones.",
        fix=f"Set the targets of the positions that are not masked to {target.ignored}.",
        drawing=_drawn_rows(target, x, y),
    )


def double_shift(target: Target, trained: TrainedTargets, x: Tensor, y: Tensor, expected: Tensor) -> Finding:
    """Return a finding on targets that are right in the batch and shifted again by the loss."""
    shift = trained.shift or 0
    next_ids = target.rule in (None, next_token)
    place = "y[t] = x[t+1]" if next_ids else "y is what the task defines"
    total = f", so it learns x[t{1 + shift:+d}]" if next_ids else ""
    return Finding(
        code="double_shift",
        title="The targets are shifted twice: in the loader and in the loss.",
        evidence=f"in the batch {place} already; the gradient of the loss shows that position t is trained on "
        f"y[t{shift:+d}]{total}",
        why="The model learns to skip a token.",
        fix="Shift once. Hugging Face models shift `labels` themselves, so pass them the unshifted inputs.",
        location=_line(trained),
        drawing=_drawn_rows(target, x, y, expected),
    )


def wrong_shift(target: Target, trained: TrainedTargets, x: Tensor, y: Tensor, by: int) -> Finding:
    """Return a finding on shifted targets. by: how many positions too far; negative: short."""
    distance = f"{'one position' if abs(by) == 1 else f'{abs(by)} positions'} {'too far' if by > 0 else 'short'}"
    by_rule = target.rule is not None and target.rule is not next_token
    equation = f"y[t] = expected y[t{by:+d}]" if by_rule else f"y[t] = x[t{by + 1:+d}]"
    return Finding(
        code="shifted_targets",
        title=f"Targets are shifted {distance} ({equation}).",
        evidence=f"y[t] is the target that position t{by:+d} should have; {_place_of_shift(trained)}",
        why="The model must predict a token without having seen the one before it, so generation skips tokens."
        if by > 0
        else "The model is asked for a token that is already in its input, so it learns to copy.",
        fix="Shift once, in the loader or in the loss: x = tokens[:-1], y = tokens[1:].",
        location=_line(trained),
        drawing=_drawn_rows(target, x, y, target.rule(x) if target.rule else next_token(x)),
    )


def unmasked_targets(target: Target, x: Tensor, y: Tensor, expected: Tensor) -> Finding:
    """Return a finding on targets at positions where the task defines none."""
    share = float(((expected == target.ignored) & (y != target.ignored)).float().mean())
    return Finding(
        code="unmasked_targets",
        title=f"{share:.0%} of the targets should be ignored but count in the loss.",
        evidence="targets count at positions where the task defines none",
        why="They cannot be predicted from what comes before, so their loss stays high and hides how well the rest is "
        "learned.",
        fix=f"Set y to {target.ignored} at the positions of the prompt.",
        drawing=_drawn_rows(target, x, y, expected),
    )


def ignored_targets(target: Target, x: Tensor, y: Tensor, proof: str = "") -> Finding:
    """Return a finding on rows of which no target counts, or few. proof: what shows that more should count."""
    n_counted = int((y != target.ignored).sum())
    return Finding(
        code="ignored_targets",
        title=f"{1 - n_counted / y.numel():.0%} of the targets are ignored."
        if n_counted
        else "Every target is ignored, so there is nothing to learn.",
        evidence=f"{n_counted} of {y.numel()} targets in {len(y)} rows count in the loss"
        + (f"; {proof}" if proof else ""),
        why="An ignored target gives no gradient, so most of the compute on each batch is wasted.",
        fix="Ignore only padding and the prompt.",
        explains=("cannot_overfit",),
        drawing=_drawn_rows(target, x, y),
    )


def untrained_ends(target: Target, x: Tensor, y: Tensor, ends: UnusedEnds) -> Finding:
    """Return a finding on rows that are trained from their start on, and whose ends are ignored."""
    last = int((y[0] != target.ignored).nonzero()[-1])
    shown = slice(max(0, last - 5), None)
    turns = (
        "the prompts are trained, and the answers are" if ends.has_turns else "the prompt is trained, and the answer is"
    )
    return Finding(
        code="ignored_targets",
        title=f"The mask of the targets is reversed: {turns} not.",
        evidence=f"{ends.n_rows} rows are trained from their start on, "
        + ("with ignored ids between trained ones, " if ends.has_turns else "")
        + f"and their ends are ignored, {ends.share:.0%} of the ids; the ends hold ids that vary, differ in length, "
        "and come before any padding",
        why="The model sees only earlier ids, so it learns nothing from what comes after the last target of a row.",
        fix=f"Set the targets of the prompt to {target.ignored}, and keep those of the answer and its end.",
        # Of prompts alone, a loss that compares two answers to each is constant.
        explains=("missing_gradient", "gradient_flow", "weights_never_move", "cannot_overfit"),
        drawing=_drawn_rows(target, x[:, shown], y[:, shown]),
    )


def swapped_rows(target: Target, x: Tensor, y: Tensor, expected: Tensor, share: float) -> Finding:
    """Return a finding on targets that are not those of the rule. share: of the targets."""
    return Finding(
        code="swapped_rows",
        title=f"{share:.0%} of the targets do not belong to their x.",
        evidence="y is neither the next token of its own row nor a shift of it",
        why="If inputs and targets come from different examples, the model can only memorize the pairs.",
        fix="Cut x and y from the same row, and shuffle both with the same permutation.",
        drawing=_drawn_rows(target, x, y, expected),
    )


def rows_of_others(target: Target, trained: TrainedTargets, x: Tensor, y: Tensor, swapped: SwappedRows) -> Finding:
    """Return a finding on rows whose targets are the next tokens of another row of the batch."""
    row = slice(swapped.first, swapped.first + 1)
    start = max(0, int((y[swapped.first] != target.ignored).nonzero()[0]) - 1)
    shown = slice(start, start + DRAWN)
    return Finding(
        code="swapped_rows",
        title=f"{swapped.share:.0%} of the rows have the targets of another row of their batch.",
        evidence="each has the next ids of the row half a batch away, so one half of the batch is exchanged with the "
        "other in x or in y"
        if swapped.halves
        else "their targets are the next ids of another row, and not of their own",
        why="A position is trained on a target that does not continue its own row, so the model cannot predict it.",
        fix="Join the two halves in the same order for x and for y, such as the chosen before the rejected rows."
        if swapped.halves
        else "Cut x and y from the same row, and shuffle both with the same permutation.",
        location=_line(trained),
        drawing=_drawn_rows(target, x[row, shown], y[row, shown], next_token(x)[row, shown]),
    )


def unrelated_rows(target: Target, x: Tensor, y: Tensor, length: int) -> Finding:
    """Return a hint on targets that are cut from the same data as the inputs, at other places."""
    return Finding(
        code="swapped_rows",
        kind="hint",
        title="Inputs and targets seem to be cut from different places of the same data.",
        evidence=f"rows of targets have runs of {length} ids in common with the inputs of other rows, and with their "
        "own no more often than chance gives",
        why="If inputs and targets do not belong together, the model can only learn how frequent each id is.",
        fix="Draw the positions once for each batch, and cut x and y from the same ones.",
        drawing=_drawn_rows(target, x, y, next_token(x)),
    )


def uncounted_targets(n_used: int, n_defined: int, line: str) -> Finding:
    """Return a hint on targets that are not ignored, but have no gradient."""
    return Finding(
        code="ignored_targets",
        kind="hint",
        title=f"The loss uses only {n_used} of {n_defined} targets that are not ignored.",
        evidence="the gradient of the loss with respect to the logits is 0 at the other positions",
        why="An ignored target gives no gradient, so most of the compute on each batch is wasted.",
        fix="Compute the loss on the logits of all positions, unless only some of them are meant to be trained.",
        location=line,
    )


def _place_of_shift(trained: TrainedTargets) -> str:
    """Return which part of the program shifts the targets, as text."""
    if trained.shift is None:
        return "measured on the batches"
    if trained.shift == 0:
        return "the loss uses the batch's y as it is"
    return f"the loss trains position t on y[t{trained.shift:+d}] of the batch"


def _line(trained: TrainedTargets) -> str:
    return "" if trained.measurement is None else trained.measurement.line


def _drawn_rows(target: Target, x: Tensor, y: Tensor, expected: Tensor | None = None) -> tuple[str, ...]:
    """Draw the first row in columns, from its start or from where its targets begin: x, y and the expected y."""
    counted = (y[0] != target.ignored).nonzero()[:, 0].tolist()
    start = counted[0] - 1 if counted and counted[0] >= DRAWN else 0
    shown = slice(start, start + DRAWN)
    rows = [("x", x[0, shown]), ("y", y[0, shown])]
    if expected is not None:
        rows.append(("expected", expected[0, shown]))

    def show(token: int) -> str:
        return ("–" if token == target.ignored else "?" if token == UNKNOWN else target.show(token))[:9]

    cells = [[show(int(token)) for token in row] for _, row in rows]
    width = max(len(cell) for line in cells for cell in line)
    lines = [" ".join(f"{cell:<{width}}" for cell in line) for line in cells]
    return tuple(f"{name:<9}{line}" for (name, _), line in zip(rows, lines, strict=True))

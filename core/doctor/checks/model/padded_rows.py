"""Does a model with one output per row see the padding of the row? Cost: up to twelve forward passes of one row."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tui_lab.core.doctor.findings import Finding, NotApplicable, NotJudged
from tui_lab.core.doctor.measures.inputs import inputs_of
from tui_lab.core.doctor.program.batch import Batch, n_rows
from tui_lab.core.doctor.program.nested import mapped, tensors_of
from tui_lab.core.doctor.program.target import Target

N_BATCHES = 4
N_ROWS = 6
MIN_PADDED = 0.5
"""Fraction of the rows that end with the same token, for that token to be padding."""
MIN_LENGTHS = 3
MIN_LENGTH = 3
"""Tokens of a row without its padding: shorter ones may be less than a convolution needs."""
LARGE = 0.25
"""Change by the padding, of the distance between the outputs of different rows, from which it is a finding. Three
seeds each, padding of 7 to 16 of 20 tokens: the last state of an LSTM or GRU, from either end, 0.33 to 0.81; a mean
over all positions 0.29 to 1.41."""
SMALL = 0.02
"""The same, from which it is a hint: a convolution or LSTM with a maximum over time 0.10 to 0.21, the first position of
a transformer without a mask 0.09 to 0.15. Masked, packed and gathered outputs change by rounding, 1e-6."""


@dataclass(frozen=True)
class PaddedRow:
    """One row of a batch, alone. length: its tokens without the padding."""

    batch: Batch
    width: int
    length: int


def check(target: Target) -> Iterator[Finding]:
    if target.tokens is not None:
        raise NotApplicable("the model has an output for each token")
    batches = [target.batch(step) for step in range(N_BATCHES if target.varies else 1)]
    ids = [_ids(batch) for batch in batches]
    token = _padding_token([x for x in ids if x is not None])
    if token is None:
        raise NotApplicable("no batch has ids whose rows end with padding")
    rows = _padded_rows(batches, ids, token)
    if len(rows) < 2:
        raise NotJudged("fewer than two padded rows in the first batches")
    change = _change(target, rows)
    if change > SMALL:
        yield _finding(change, token, rows, _proof(target.model, batches, ids, token))


def _ids(batch: Batch) -> Tensor | None:
    """Return the batch's first integer tensor [B, T] that may hold ids."""
    rows = n_rows(inputs_of(batch))
    for tensor in tensors_of(inputs_of(batch)):
        is_integer = not tensor.is_floating_point() and tensor.dtype != torch.bool and not tensor.is_complex()
        has_rows = tensor.dim() == 2 and len(tensor) == rows and tensor.shape[1] > MIN_LENGTH
        # Two values are a mask, or the types of two segments.
        if is_integer and has_rows and len(torch.unique(tensor)) > 2:
            return tensor
    return None


def _tail(x: Tensor, token: int) -> Tensor:
    return (x == token).flip(1).cumprod(1).flip(1).bool()


def _padding_token(ids: Sequence[Tensor]) -> int | None:
    """Return the token that most rows repeat at their end and have nowhere else; None if there is none."""
    if not ids:
        return None
    token = int(torch.cat([x[:, -1] for x in ids]).mode().values)
    n_padded = n = 0
    lengths: set[int] = set()
    for x in ids:
        tail = _tail(x, token)
        inside = ((x == token) & ~tail).any(dim=1)
        padded = (tail.sum(dim=1) >= 2) & ~inside
        if float(inside.float().mean()) > 0.05:
            return None
        n += len(x)
        n_padded += int(padded.sum())
        lengths |= set((~tail[padded]).sum(dim=1).tolist())
    return token if n_padded >= MIN_PADDED * n and len(lengths) >= MIN_LENGTHS else None


def _padded_rows(batches: Sequence[Batch], ids: Sequence[Tensor | None], token: int) -> list[PaddedRow]:
    """Return the rows with most padding."""
    rows: list[tuple[int, int, int, int]] = []
    for number, x in enumerate(ids):
        if x is not None:
            lengths = (~_tail(x, token)).sum(dim=1).tolist()
            width = x.shape[1]
            rows += [(width - n, number, row, n) for row, n in enumerate(lengths) if MIN_LENGTH <= n <= width - 2]
    rows.sort(reverse=True)
    chosen = []
    for padding, number, row, length in rows[:N_ROWS]:
        chosen.append(PaddedRow(_only_row(batches[number], row), padding + length, length))
    return chosen


def _changed(batch: Batch, change: Callable[[Tensor], Tensor]) -> Batch:
    inputs = inputs_of(batch)
    changed = mapped(inputs, change)
    return changed if inputs is batch else {**batch, **changed}


def _only_row(batch: Batch, row: int) -> Batch:
    rows = n_rows(inputs_of(batch))
    return _changed(batch, lambda t: t[row : row + 1].contiguous() if t.dim() and len(t) == rows else t)


def _without_padding(row: PaddedRow) -> Batch:
    """Cut every dimension that is as long as the row."""

    def cut(tensor: Tensor) -> Tensor:
        for dim, size in enumerate(tensor.shape):
            if dim and size == row.width:
                tensor = tensor.narrow(dim, 0, row.length)
        return tensor.contiguous()

    return _changed(row.batch, cut)


def _change(target: Target, rows: Sequence[PaddedRow]) -> float:
    """Return how much padding changes the outputs, of the mean distance between the outputs of two rows."""
    full, cut = [], []
    with target.evaluating(), torch.no_grad():
        for row in rows:
            full.append(_scores(target.output(row.batch)))
            try:
                cut.append(_scores(target.output(_without_padding(row))))
            except (NotJudged, NotApplicable):
                raise
            except Exception as error:
                raise NotApplicable("the model accepts rows of one length only") from error
    if any(a is None or b is None or a.shape != b.shape for a, b in zip(full, cut, strict=True)):
        raise NotApplicable("the model does not have one output for each row")
    padded = torch.cat([a for a in full if a is not None]).flatten(1).double()
    alone = torch.cat([b for b in cut if b is not None]).flatten(1).double()
    distance = torch.pdist(alone).mean() if len(alone) > 1 else alone.norm()
    if float(distance) <= 1e-6 * float(alone.abs().max()):
        raise NotJudged("the model gives all rows the same output")
    return float((padded - alone).norm(dim=1).median() / distance)


def _scores(output: object) -> Tensor | None:
    """Return the first float tensor [1, C] or [1] of an output."""
    for tensor in tensors_of(output):
        if tensor.is_floating_point() and tensor.dim() in (1, 2) and len(tensor) == 1:
            return tensor.reshape(1, -1)
    return None


def _proof(model: nn.Module, batches: Sequence[Batch], ids: Sequence[Tensor | None], token: int) -> str:
    """Return what shows that the tails are padding; empty if nothing does."""
    if any(isinstance(module, nn.Embedding) and module.padding_idx == token for module in model.modules()):
        return f"the embedding has padding_idx={token}"
    for batch, x in zip(batches, ids, strict=True):
        if x is None:
            continue
        tail = _tail(x, token)
        for tensor in tensors_of(inputs_of(batch)):
            if tensor.shape == x.shape and tensor is not x and torch.equal(tensor == 0, tail):
                return "the batch has a mask that is 0 there"
            if tensor.shape == x.shape[:1] and torch.equal(tensor.long(), (~tail).sum(dim=1)):
                return "the batch has the lengths without them"
    batches_of_ids = [x for x in ids if x is not None]
    has_widths = len({x.shape[1] for x in batches_of_ids}) > 1
    if has_widths and all(not bool(_tail(x, token)[:, -1].all()) for x in batches_of_ids):
        return "each batch is only as long as its longest row"
    return ""


def _finding(change: float, token: int, rows: Sequence[PaddedRow], proof: str) -> Finding:
    is_shown = bool(proof) and change >= LARGE
    longest = rows[0]
    return Finding(
        code="padding_attended",
        kind="finding" if is_shown else "hint",
        title="The padding of a row changes its output." if proof else "The end of a row may be padding that counts.",
        evidence=f"{len(rows)} rows in evaluation, with and without their tails of id {token} (such as "
        f"{longest.length} of {longest.width} tokens): the output changes by {change:.0%} of the distance between two "
        f"rows{'; ' + proof if proof else ''}",
        why="The same row gets another answer in a batch with longer rows, and what the model has read is diluted or "
        "forgotten on the way through the padding.",
        fix="Take a recurrent layer's state at the last real token, or pack the sequences; give attention the padding "
        "mask; take means and maxima over real tokens only.",
        explains=("batch_mixing",),
    )

"""Are the ids in the model's vocabulary, and does it match the tokenizer's? Cost: eight batches, two forward passes."""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor

from tui_lab.core.doctor.findings import Finding, NotJudged
from tui_lab.core.doctor.program.batch import Batch, first_rows
from tui_lab.core.doctor.program.target import Target, required

PADDED_TO = 128
"""A vocabulary rounded up to a multiple of this is intended: it makes the head faster (nanoGPT rounds to 64)."""
ROUND = 8
MAX_ROUNDED = 0.03
"""Of the tokenizer's ids, what a vocabulary that is a multiple of ROUND may have in addition: Phi has 51,200 entries
for 50,295 ids, gpt-oss 201,088 for 200,019."""
UNUSED = 0.5
"""Of the entries, above which no id is seen where the vocabulary may be a wrong one."""
STEPS = 8
NO_TOKENIZER = "the script has no tokenizer of a known library, whose size could be compared"


def check(target: Target) -> Iterator[Finding]:
    n_rows = _embedding_size(target)
    n_logits = _n_logits(target)
    largest = 0
    for step in range(STEPS if target.varies else 1):
        batch = target.batch(step)
        finding = _judge_inputs(target, batch, step, n_rows, n_logits)
        finding = finding or _judge_targets(target, batch, step, n_rows, n_logits)
        if finding is not None:
            yield finding
            return
        largest = max(largest, *required(target.tokens).x(batch).flatten().tolist(), 0)
    n_vocab = target.n_vocab
    if n_vocab is None and n_rows in (None, n_logits):  # A model of labels returns logits of no vocabulary.
        n_rows = n_logits
        n_vocab = _size_in_script(target, n_logits or 0, largest)
    if n_vocab is not None and n_rows is not None and not _is_fitting(n_rows, n_vocab):
        yield _other_vocabulary(n_rows, n_vocab)


def _is_fitting(n_rows: int, n_vocab: int) -> bool:
    """Return whether a vocabulary of `n_rows` entries is meant for `n_vocab` ids: it may be rounded up."""
    is_rounded = n_rows % ROUND == 0 and n_rows <= n_vocab * (1 + MAX_ROUNDED)
    return n_vocab <= n_rows and (is_rounded or n_rows <= -(-n_vocab // PADDED_TO) * PADDED_TO)


def _size_in_script(target: Target, n_entries: int, largest: int) -> int | None:
    """Return the size of the tokenizer that made the ids of a script; None if one of its tokenizers fits the model.

    largest: the highest id that was seen. A larger tokenizer is no fault if the script keeps only the ids that it
    uses. Raises NotJudged if the vocabulary may be wrong, but it is not known which tokenizer made the ids.
    """
    sizes = target.vocabularies
    if sizes is None or any(size >= n_entries or _is_fitting(n_entries, size) for size in sizes):
        return None
    possible = [size for size in sizes if size > largest]
    if len(sizes) == 1 and possible:
        return possible[0]
    if not sizes and largest >= UNUSED * n_entries:
        return None
    these = " or ".join(f"{size:,}" for size in sorted(sizes))
    raise NotJudged(
        f"no id of the batches is above {largest:,}, and the model has {n_entries:,} entries; "
        + (f"which of the script's tokenizers made them, of {these} ids, is not known" if sizes else NO_TOKENIZER)
    )


def _judge_inputs(target: Target, batch: Batch, step: int, n_rows: int | None, n_logits: int | None) -> Finding | None:
    """n_rows: of the embedding."""
    x = required(target.tokens).x(batch)
    finding = _out_of_range(x, "x", n_rows or n_logits or target.n_vocab, step, "")
    if finding is not None and n_rows is None and _model_accepts(target, batch):
        return None  # A decoder may take ids that it never returns, such as that of the start.
    return finding


def _judge_targets(target: Target, batch: Batch, step: int, n_rows: int | None, n_logits: int | None) -> Finding | None:
    tokens = required(target.tokens)
    if tokens.y is None:
        return None
    y = tokens.y(batch)
    also_allowed = f", or {target.ignored} to ignore a target"
    finding = _out_of_range(y[y != target.ignored], "y", n_logits or n_rows or target.n_vocab, step, also_allowed)
    return None if finding is not None and _loss_accepts(target, batch) else finding


def _other_vocabulary(n_rows: int, n_vocab: int) -> Finding:
    return Finding(
        code="wrong_vocab",
        title=f"The model's vocabulary has {n_rows:,} entries; the tokenizer has {n_vocab:,}.",
        evidence=f"embedding rows {n_rows:,}, tokenizer.n_vocab {n_vocab:,}: {abs(n_rows - n_vocab):,} entries are "
        + ("never used" if n_rows > n_vocab else "missing"),
        why="Unused entries take part in every softmax and can be generated; missing ones raise an index error.",
        fix="Build the model with the tokenizer's size instead of a constant.",
    )


def _embedding_size(target: Target) -> int | None:
    """Return the number of entries of the embedding that is called with the ids, or None if there is none."""
    batch = target.batch(0) if target.fixed_shape else first_rows(target.batch(0), 1)
    x = required(target.tokens).x(batch).to(target.device)
    sizes: list[int] = []

    def called(module: torch.nn.Module, inputs: tuple[object, ...]) -> None:
        ids = inputs[0] if inputs else None
        if isinstance(ids, torch.Tensor) and ids.shape == x.shape and torch.equal(ids, x):
            sizes.append(int(module.num_embeddings))  # type: ignore[arg-type]

    embeddings = [m for m in target.model.modules() if isinstance(m, torch.nn.Embedding)]
    handles = [m.register_forward_pre_hook(called) for m in embeddings]
    try:
        # An id outside the embedding raises, but only after the hook was called.
        with target.evaluating(), torch.no_grad(), contextlib.suppress(Exception):
            target.logits_of(batch)
    finally:
        for handle in handles:
            handle.remove()
    return sizes[0] if sizes else None


def _n_logits(target: Target) -> int | None:
    """Return the number of logits for each position, or None if the model fails."""
    tokens = required(target.tokens)
    batch = target.batch(0) if target.fixed_shape else first_rows(target.batch(0), 1)
    with target.evaluating(), torch.no_grad(), contextlib.suppress(Exception):
        return int(target.logits_of(tokens.with_x(batch, torch.zeros_like(tokens.x(batch)))).shape[-1])
    return None


def _model_accepts(target: Target, batch: Batch) -> bool:
    """Return whether the model takes the batch."""
    try:
        with target.evaluating(), torch.no_grad():
            target.output(batch)
    except Exception:
        return False
    return True


def _loss_accepts(target: Target, batch: Batch) -> bool:
    """Return whether the run's own loss takes the targets, as it does if it ignores those outside the vocabulary."""
    if target.loss_function is None:
        return False
    try:
        with target.evaluating(), torch.no_grad():
            return bool(torch.isfinite(target.loss(batch)))
    except Exception:
        return False


def _out_of_range(ids: Tensor, name: str, size: int | None, step: int, also_allowed: str) -> Finding | None:
    """Return the finding if any id is not from 0 to `size` - 1."""
    if ids.numel() == 0 or (int(ids.min()) >= 0 and (size is None or int(ids.max()) < size)):
        return None
    low, high = int(ids.min()), int(ids.max())
    allowed = (f"0 to {size - 1:,}" if size else "0 or more") + also_allowed
    return Finding(
        code="wrong_vocab",
        title=f"{name} contains the id {high if low >= 0 else low:,}, which is not in the model's vocabulary.",
        evidence=f"batch {step + 1}: ids of {name} range from {low:,} to {high:,}; allowed: {allowed}",
        why="An id outside the embedding raises an index error, or on a GPU, an opaque device-side assert.",
        fix="Build the model with tokenizer.n_vocab, and mark ignored targets with the loss's ignore_index.",
        explains=("forward_fails",),
    )

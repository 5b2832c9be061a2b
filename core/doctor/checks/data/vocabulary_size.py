"""Does the model's vocabulary have as many entries as the tokenizer? Cost: eight batches, two forward passes."""

from collections.abc import Iterator

from tui_lab.core.doctor.findings import Finding, NotJudged
from tui_lab.core.doctor.measures.vocabulary_sizes import vocabulary_sizes
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
NO_TOKENIZER = "the script uses no tokenizer of a known library, so there is no size to compare"


def check(target: Target) -> Iterator[Finding]:
    sizes = vocabulary_sizes(target)
    n_rows = sizes.embedding
    n_logits = sizes.logits
    n_vocab = target.n_vocab
    if n_vocab is None and n_rows in (None, n_logits):  # A model of labels returns logits of no vocabulary.
        n_rows = n_logits
        n_vocab = _size_in_script(target, n_logits or 0, _largest_id(target))
    if n_vocab is not None and n_rows is not None and not _is_fitting(n_rows, n_vocab):
        yield _other_vocabulary(n_rows, n_vocab)


def _largest_id(target: Target) -> int:
    x = required(target.tokens).x
    return max(int(x(target.batch(step)).max()) for step in range(STEPS if target.varies else 1))


def _is_fitting(n_rows: int, n_vocab: int) -> bool:
    """Return whether a vocabulary of `n_rows` entries is meant for `n_vocab` ids: it may be rounded up."""
    is_rounded = n_rows % ROUND == 0 and n_rows <= n_vocab * (1 + MAX_ROUNDED)
    return n_vocab <= n_rows and (is_rounded or n_rows <= -(-n_vocab // PADDED_TO) * PADDED_TO)


def _size_in_script(target: Target, n_entries: int, largest: int) -> int | None:
    """Return the size of the tokenizer that made the ids of a script; None if one of its tokenizers fits the model.

    largest: the highest id that was seen. A larger tokenizer is not a fault if the script keeps only the ids that it
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


def _other_vocabulary(n_rows: int, n_vocab: int) -> Finding:
    return Finding(
        code="wrong_vocab",
        title=f"The model's vocabulary has {n_rows:,} entries; the tokenizer has {n_vocab:,}.",
        evidence=f"embedding rows {n_rows:,}, tokenizer.n_vocab {n_vocab:,}: {abs(n_rows - n_vocab):,} entries are "
        + ("never used" if n_rows > n_vocab else "missing"),
        why="Unused entries take part in every softmax and can be generated; missing ones raise an index error.",
        fix="Build the model with the tokenizer's size instead of a constant.",
    )

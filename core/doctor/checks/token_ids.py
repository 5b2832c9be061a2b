"""Are the ids within the model's vocabulary, and is that the tokenizer's? Cost: eight batches and a forward pass."""

import contextlib
from collections.abc import Iterator

import torch

from tui_lab.core.doctor.findings import Finding
from tui_lab.core.doctor.target import Probe, Subject

PADDED_TO = 128
"""A vocabulary rounded up to a multiple of this is meant so: it makes the head faster (nanoGPT rounds to 64)."""
STEPS = 8


def vocabulary_of(subject: Subject) -> int | None:
    """How many entries the embedding has that is called with the ids; None where none is."""
    x = subject.batch(0)[0][:1].to(subject.device)
    sizes: list[int] = []

    def called(module: torch.nn.Module, inputs: tuple[object, ...]) -> None:
        ids = inputs[0] if inputs else None
        if isinstance(ids, torch.Tensor) and ids.shape == x.shape and torch.equal(ids, x):
            sizes.append(int(module.num_embeddings))  # type: ignore[arg-type]

    embeddings = [m for m in subject.model.modules() if isinstance(m, torch.nn.Embedding)]
    handles = [m.register_forward_pre_hook(called) for m in embeddings]
    try:
        # An id beyond the embedding raises, but only after the hook has seen it.
        with subject.evaluating(), torch.no_grad(), contextlib.suppress(Exception):
            subject.logits(x)
    finally:
        for handle in handles:
            handle.remove()
    return sizes[0] if sizes else None


def check(subject: Subject, probe: Probe | None) -> Iterator[Finding]:
    rows = vocabulary_of(subject)
    for step in range(STEPS if subject.varies else 1):
        x, y = subject.batch(step)
        wrong = list(_out_of_range(subject, x, y[y != subject.ignored], rows, step))
        if wrong:
            yield from wrong
            return
    told = subject.n_vocab
    if told is not None and rows is not None and not told <= rows <= -(-told // PADDED_TO) * PADDED_TO:
        yield Finding(
            "wrong_vocab",
            f"The model's vocabulary has {rows:,} entries, the tokenizer {told:,}.",
            f"embedding rows {rows:,}, tokenizer.n_vocab {told:,}: {abs(rows - told):,} "
            + ("are never used" if rows > told else "are missing"),
            "Entries that no token has take part in every softmax and can be generated; missing ones crash.",
            "Ask the tokenizer for its vocabulary size; do not write the number down.",
        )


def _out_of_range(
    subject: Subject, x: torch.Tensor, targets: torch.Tensor, rows: int | None, step: int
) -> Iterator[Finding]:
    for name, ids in (("x", x), ("y", targets)):
        top = rows if rows is not None else subject.n_vocab
        if ids.numel() == 0 or (int(ids.min()) >= 0 and (top is None or int(ids.max()) < top)):
            continue
        wrong = int(ids.max()) if int(ids.min()) >= 0 else int(ids.min())
        yield Finding(
            "wrong_vocab",
            f"{name} holds the id {wrong:,}, which the model does not have.",
            f"step {step}: ids of {name} run from {int(ids.min()):,} to {int(ids.max()):,}; "
            f"allowed are 0 to {(top or 0) - 1:,}" + (f", and {subject.ignored} to ignore" if name == "y" else ""),
            "An id beyond the embedding is an index error, or on a GPU an assertion that names nothing.",
            "Give the model the tokenizer's own vocabulary size, and mark ignored targets as the loss expects.",
            explains=("forward_fails",),
        )
        return

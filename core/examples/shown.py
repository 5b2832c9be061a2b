"""Makes the examples of a report: their tokens decoded, with the losses and predictions of a model."""

import math
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from tui_lab.core.examples.report import ShownExample
from tui_lab.core.examples.selection import Part
from tui_lab.core.inference.example import CellLosses, row_losses
from tui_lab.core.user_code.external_model import Model
from tui_lab.data.dataset import IGNORED, Dataset
from tui_lab.data.tokenizers import Tokenizer, decode

Ids = npt.NDArray[np.int64]
N_PREDICTIONS = 3
"""Predictions at each position of an example that is shown."""


def shown_examples(
    dataset: Dataset, part: Part, ids: Ids, tokenizer: Tokenizer, model: Model | None = None
) -> list[ShownExample]:
    """Return examples in the order of `ids`, with their losses if there is a model, which is in evaluation mode."""
    if not len(ids):
        return []
    x, y = dataset.examples(ids)
    offsets = dataset.offsets(ids)
    cells = (
        None if model is None else row_losses(model, np.ascontiguousarray(x), np.ascontiguousarray(y), N_PREDICTIONS)
    )
    return [
        shown_example(
            part,
            int(ids[row]),
            None if offsets is None else int(offsets[row]),
            (x[row], y[row]),
            tokenizer,
            None if cells is None else cells[row],
        )
        for row in range(len(ids))
    ]


def shown_example(
    part: Part,
    example: int,
    offset: int | None,
    tokens: tuple[Ids, Ids],
    tokenizer: Tokenizer,
    cells: CellLosses | None = None,
) -> ShownExample:
    """Return one example. tokens: x and y [T]."""
    x, y = tokens
    shown = ShownExample(part, example, offset, text_of(x, y, tokenizer), tuple(x.tolist()), tuple(y.tolist()))
    if cells is None:
        return shown
    counted = y != IGNORED
    losses = tuple(None if math.isnan(loss) else loss for loss in cells.losses.tolist())
    return replace(
        shown,
        losses=losses,
        loss=float(cells.losses[counted].mean(dtype=np.float64)) if counted.any() else None,
        top=tuple(map(tuple, cells.top.tolist())),
        probabilities=tuple(tuple(round(p, 6) for p in row) for row in cells.probabilities.tolist()),
        n_wrong=int((counted & (cells.top[:, 0] != y)).sum()),
    )


def text_of(x: Ids, y: Ids, tokenizer: Tokenizer) -> str:
    """Return an example as text: its inputs, and the last target, which is not an input."""
    last = y[-1:] if len(y) and y[-1] != IGNORED else y[:0]
    return decode(tokenizer, np.concatenate([x, last]))

"""Texts of the batch pane: the shuffle state, which examples were used, and the details of a cell."""

import math
from collections.abc import Sequence
from itertools import accumulate

import numpy as np
from rich.text import Text

from tui_lab.app.panes.cells import Example
from tui_lab.app.token_text import token_name, token_text
from tui_lab.app.widgets.histogram_bar import histogram_bar
from tui_lab.data.dataset import IGNORED
from tui_lab.data.loader import Batch, Loader

N_SHOWN_IDS = 6
N_STRIP_STEPS = 64
"""Steps whose examples the strip shows."""


def shuffle_state(batch: Batch, when: str) -> Text:
    """Return two lines: step, epoch and shuffle order; the ids of the batch. when: "past", "future" or ""."""
    order = batch.order
    ids = " ".join(map(str, batch.ids[:N_SHOWN_IDS])) + (" …" if len(batch.ids) > N_SHOWN_IDS else "")
    permutation = " ".join(map(str, batch.head[:N_SHOWN_IDS]))
    return Text.assemble(
        (f"step {batch.step:,}{f'  {when}' if when else ''}", "bold"),
        f"  epoch {batch.epoch} at {batch.position:,}/{order.n:,}  shuffle ",
        (order.mode, "bold"),
        f" seed {order.seed}, order {permutation} …\nexamples {ids}",
    )


def used_examples(batch: Batch, loader: Loader, width: int) -> Text:
    """Return a strip over all examples, `width` columns wide: which of them the last steps used."""
    used = loader.drawn_between(max(loader.from_step, batch.step - N_STRIP_STEPS + 1), batch.step)
    # A planted fault can make the loader use examples outside of the order.
    n = batch.order.n if int(used.max()) < batch.order.n else loader.dataset.n_examples
    return Text.assemble(
        (f"last {N_STRIP_STEPS} steps ", "dim"),
        histogram_bar(used.tolist(), n, width),
        (f" {len(np.unique(used)):,} of {n:,}", "dim"),
    )


def example_title(batch: Batch, row: int, t: int) -> str:
    """Return which example and position is selected."""
    source = "" if batch.offsets is None else f", token {int(batch.offsets[row]) + t:,} of the source"
    return f"example {batch.ids[row]} ({row + 1}/{len(batch.ids)}), t = {t}{source}"


def cell_details(title: str, example: Example, t: int, width: int) -> Text:
    """Return up to three lines: the title, input and target, loss and as many predictions as fit into `width`."""
    target = int(example.y[t])
    text = Text.assemble(
        (f"{title}\n", "dim"),
        ("x ", "bold"),
        f"{token_name(example.tokenizer, int(example.x[t]))}   ",
        ("y ", "bold"),
        "-1: ignored by the loss, no target here" if target == IGNORED else token_name(example.tokenizer, target),
    )
    if example.losses is None:
        return text
    loss = example.loss(t)
    last_line = "" if math.isnan(loss) else f"loss {loss:.3f}, p = {math.exp(-loss):.3f}. "
    top = zip(example.losses.top[t].tolist(), example.losses.probabilities[t].tolist(), strict=True)
    predictions = [(token, f"{token_text(example.tokenizer, token)} ({p:.2f})") for token, p in top]
    n_fitting = _n_fitting([text for _, text in predictions], width - len(last_line) - len("top 5: "))
    text.append(f"\n{last_line}")
    text.append(f"top {n_fitting}: " if predictions else "", "dim")
    for token, prediction in predictions[:n_fitting]:
        text.append(f"{prediction}  ", "bold green" if token == target else "")
    return text


def _n_fitting(texts: Sequence[str], width: int) -> int:
    """Return how many of the texts, at least one, fit into a line with two spaces between them."""
    ends = accumulate(len(text) + 2 for text in texts)
    return max(1, sum(end - 2 <= width for end in ends))

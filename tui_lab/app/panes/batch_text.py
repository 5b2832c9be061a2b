"""Texts of the batch pane: the shuffle state, which examples were used, and the details of a cell."""

import math
from collections.abc import Sequence
from itertools import accumulate

from rich.text import Text

from tui_lab.app.panes.batch_age import age_text
from tui_lab.app.panes.cells import Example
from tui_lab.app.session.state import LabState
from tui_lab.app.token_text import token_name, token_text
from tui_lab.app.widgets.histogram_bar import histogram_bar
from tui_lab.core.commands import WeightsInfo
from tui_lab.data.dataset import IGNORED
from tui_lab.data.loader import Batch, Ids, Loader
from tui_lab.util.plural import plural

MIN_STRIP = 6
"""Columns of the strip, at least, as long as other parts of its line can be shorter."""
LEAST_STRIP = 4
"""It is left out if there is room for fewer columns."""
N_STRIP_STEPS = 64
"""Steps whose examples the strip shows."""


def step_text(batch: Batch, state: LabState, width: int, *, following: bool) -> Text:
    """Return the step of a batch, counted as in the status line, how far it is from the latest one, and its epoch.

    width: columns; parts of the epoch that do not fit are left out. following: see `age_text`.
    """
    step = batch.step + 1
    done = state.step
    n_steps = 0 if state.trainer_config is None else state.trainer_config.train.steps
    if 0 < n_steps < step:
        age = f"  after the last step, {n_steps:,}"
    elif step > done:
        age = "  next" if step == done + 1 else "  future"
    else:
        words = age_text(done - step, state, following=following)
        age = f"  {words}" if words else ""
    epoch = f"  epoch {batch.data_epoch}"
    position = f"{epoch}, {batch.position:,}"
    n_free = width - len(f"step {step:,}{age}")
    fitting = [text for text in (f"{position}/{batch.order.n:,}", position, epoch, "") if len(text) <= n_free]
    return Text.assemble((f"step {step:,}", "bold"), (age, "italic"), fitting[0] if fitting else "")


def shuffle_text(batch: Batch, width: int) -> Text:
    """Return the shuffle mode, its seed, and as much of the order of the epoch as fits."""
    order = batch.order
    start = f"shuffle {order.mode}  seed {order.seed}  order "
    ids = ""
    for number in batch.head:
        if len(start) + len(ids) + len(f"{number} …") > width:
            break
        ids += f"{number} "
    shown = f"  order {ids}…" if ids else ""
    return Text.assemble("shuffle ", (order.mode, "bold"), f"  seed {order.seed}{shown}", no_wrap=True)


def repeats_text(batch: Batch, earlier: Ids, n_drawn: int) -> str:
    """Return when the examples of a batch were drawn before.

    earlier: the ids that the steps before it drew, `n_drawn` in each; none if it is the first.
    """
    if not len(earlier):
        return ""
    latest_draw = {int(number): draw for draw, number in enumerate(earlier)}
    ages = [
        (len(earlier) - 1 - latest_draw[number]) // n_drawn + 1
        for number in batch.ids.tolist()
        if number in latest_draw
    ]
    if not ages:
        return "all new"
    when = f"{min(ages)}" if min(ages) == max(ages) else f"{min(ages)} to {max(ages)}"
    share = "all" if len(ages) == len(batch.ids) else f"{len(ages):,} of {len(batch.ids):,}"
    return f"{share} drawn {when} {plural(max(ages), 'step')} before"


def used_examples(batch: Batch, loader: Loader, width: int) -> Text:
    """Return a line of `width` columns: which of all examples the last steps drew, and when those of this step."""
    first = max(loader.from_step, batch.step - N_STRIP_STEPS + 1)
    used = loader.drawn_between(first, batch.step)
    # A planted fault can make the loader use examples outside of the order.
    n = batch.order.n if int(used.max()) < batch.order.n else loader.dataset.n_examples
    n_steps = batch.step - first + 1
    starts = [f"last {n_steps} steps ", f"{n_steps} steps ", ""] if n_steps > 1 else ["this step ", ""]
    repeats = repeats_text(batch, used[: -loader.drawn], loader.drawn)
    count = f"{len(set(used.tolist())):,} of {n:,}"
    # When the examples were drawn before is what one looks for: everything else is shortened first.
    ends = [f" {count}; {repeats}", f" {repeats}"] if repeats else [f" {count}"]
    options = [(starts[0], ends[0]), *((start, ends[-1]) for start in starts)]
    start, end = next((pair for pair in options if len("".join(pair)) + MIN_STRIP <= width), options[-1])
    n_columns = width - len(start) - len(end)
    strip = histogram_bar(used.tolist(), n, n_columns) if n_columns >= LEAST_STRIP else ""
    return Text.assemble(
        (start, "dim"), strip, (end if strip else end.strip(), "dim"), no_wrap=True, overflow="ellipsis"
    )


def losses_text(weights: WeightsInfo | None, width: int) -> str:
    """Return with which saved weights losses are measured; empty for a model that trains.

    The text has at most `width` characters, if it can: in the border of a narrow pane the step is what matters.
    """
    if weights is None:
        return ""
    step = f"step {weights.step:,}"
    name = "best weights," if weights.best else "weights of"
    texts = (f"loss: {name} {step}", f"{name} {step}")
    return next((text for text in texts if len(text) <= width), step)


def measured_text(model_step: int | None, width: int) -> str:
    """Return what the losses of the examples are in a run whose own loss may be something else.

    model_step: how many steps the model had made; None if it trains on. The text has at most `width` characters.
    """
    step = "" if model_step is None else f" of step {model_step:,}"
    texts = (f"cross-entropy of the logits{step}, not the run's loss", f"cross-entropy{step}")
    return next((text for text in texts if len(text) <= width), "")


def example_name(batch: Batch, row: int) -> str:
    """Return the place of an example in its batch, and its number."""
    return f"{row + 1}/{len(batch.ids)}  example {batch.ids[row]:,}"


def position_text(batch: Batch, row: int, t: int) -> str:
    """Return which position of an example is selected, and where it is in the source."""
    source = "" if batch.offsets is None else f", source token {int(batch.offsets[row]) + t:,}"
    return f"{row + 1}/{len(batch.ids)}, t = {t}{source}"


def cell_details(title: str, example: Example, t: int, width: int) -> Text:
    """Return up to three lines: the title, input and target, loss and as many predictions as fit into `width`."""
    target = int(example.y[t])
    text = Text.assemble(
        (f"{title}\n", "dim"),
        ("x ", "bold"),
        f"{token_name(example.tokenizer, int(example.x[t]))}   ",
        ("y ", "bold"),
        f"{example.ignored}: ignored by the loss, no target here"
        if target == IGNORED
        else token_name(example.target_tokenizer, target),
    )
    if example.losses is None:
        return text
    loss = example.loss(t)
    last_line = "" if math.isnan(loss) else f"loss {loss:.3f}, p = {math.exp(-loss):.3f}. "
    top = zip(example.losses.top[t].tolist(), example.losses.probabilities[t].tolist(), strict=True)
    # A position whose logits the loss did not get has probabilities of 0.
    predictions = [(token, f"{token_text(example.target_tokenizer, token)} ({p:.2f})") for token, p in top if p > 0]
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

"""Texts of the screen with the rows of a step: about the step, its losses as a strip, and a line for each row."""

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from tui_lab.app.token_text import token_text
from tui_lab.app.widgets.histogram_bar import histogram_bar
from tui_lab.data.tokenizers import IdTokenizer, Tokenizer, decode
from tui_lab.runs.names import row_name
from tui_lab.runs.numbers import short_number
from tui_lab.util.escape import printable

if TYPE_CHECKING:
    from tui_lab.core.runs.explain import Explanation, RowLoss, StepRows

SUSPECT = "▲"
SUSPECT_STYLE = "bold red"
N_PLACES = 1000
"""Places of the strips' axis."""
LABEL_WIDTH = 22
"""Columns before a strip: the step and its loss."""


def about_step(explanation: "Explanation") -> Text:
    """Return a line: the loss of the step, and which one was expected if it is a spike."""
    at = explanation.at
    spike = explanation.spike
    text = Text.assemble((f"step {at.step:,}", "bold"), f"  loss {short_number(at.loss)}  ")
    if spike is None:
        return text.append("no spike", "dim")
    return text.append("spike", SUSPECT_STYLE).append(
        f": {short_number(spike.expected)} was expected, ± {short_number(spike.deviation)}"
    )


def about_suspects(explanation: "Explanation") -> Text:
    """Return a line: how many rows stand out, and what the loss is without them."""
    rows = explanation.at.rows
    n = len(explanation.suspects)
    if n == 0:
        return Text(f"No row stands out from the {len(rows):,} rows of the step.", "dim")
    text = Text.assemble(
        (f"{SUSPECT} {n:,} of {len(rows):,} rows", SUSPECT_STYLE), f" stand{'s' if n == 1 else ''} out"
    )
    if explanation.loss_without is not None:
        text.append(f"; without {'it' if n == 1 else 'them'} the loss is {short_number(explanation.loss_without)}")
    return text


def strips(explanation: "Explanation", width: int) -> Text:
    """Return four lines: an axis, and where on it the losses of the rows of the three steps are."""
    steps = [step for step in (explanation.before, explanation.at, explanation.after) if step is not None]
    losses = [row.loss for step in steps for row in step.rows if math.isfinite(row.loss)]
    low = min(losses, default=0.0)
    high = max(losses, default=1.0)
    n_columns = max(8, width - LABEL_WIDTH)
    ends = (short_number(low), short_number(high))
    middle = "rows by loss".center(max(0, n_columns - len(ends[0]) - len(ends[1])), "·")
    lines = [Text(f"{'step':>9} {'loss':>9}   {ends[0]}{middle}{ends[1]}", "dim")]
    places = _Axis(low, high, n_columns)
    for step, name in ((explanation.before, "before"), (explanation.at, ""), (explanation.after, "after")):
        if step is None:
            lines.append(Text(f"{'–':>9} {'':>9}   {f'no step {name} is recorded':<{n_columns}}", "dim"))
            continue
        is_at = step is explanation.at
        label = f"{'▸' if is_at else ' '}{step.step:>8,} {short_number(step.loss):>9}   "
        line = Text(label, "bold" if is_at else "").append(places.strip(step.rows), "cyan" if is_at else "")
        if is_at:
            for row in explanation.suspects:
                place = len(label) + places.column(row.loss)
                line.plain = line.plain[:place] + SUSPECT + line.plain[place + 1 :]
                line.stylize(SUSPECT_STYLE, place, place + 1)
        lines.append(line)
    return Text("\n").join(lines)


class _Axis:
    """Losses from `low` to `high` on `n_columns` columns."""

    def __init__(self, low: float, high: float, n_columns: int) -> None:
        self._low = low
        self._range = (high - low) or 1.0
        self._n_columns = n_columns

    def _place(self, loss: float) -> int:
        return min(N_PLACES - 1, max(0, int((loss - self._low) / self._range * N_PLACES)))

    def column(self, loss: float) -> int:
        place = self._place(loss) if math.isfinite(loss) else N_PLACES - 1
        return place * self._n_columns // N_PLACES

    def strip(self, rows: "Iterable[RowLoss]") -> str:
        places = [self._place(row.loss) for row in rows if math.isfinite(row.loss)]
        return histogram_bar(places, N_PLACES, self._n_columns)


def columns(width: int, *, full: bool) -> Text:
    """Return the names of the columns of `row_line`."""
    return Text(set_cell_size(f"    loss   example  {'before':<16}  text" if full else "    loss  text", width), "dim")


def row_line(
    row: "RowLoss", tokenizer: Tokenizer, width: int, *, full: bool, suspect: bool = False, selected: bool = False
) -> Text:
    """Return a line about a row. full: with its example and when it was drawn before."""
    loss = "–" if math.isnan(row.loss) else f"{row.loss:.3f}"
    start = f"{SUSPECT if suspect else ' '}{loss:>7}"
    middle = f" {row.example:>9,}  {set_cell_size(seen_text(row), 16)}  " if full else "  "
    text = set_cell_size(row_text(row.x, tokenizer, width), max(0, width - len(start) - cell_len(middle)))
    line = Text.assemble((start, SUSPECT_STYLE if suspect else ""), (middle, ""), text, no_wrap=True)
    if selected:
        line.stylize("reverse")
    return line


def seen_text(row: "RowLoss") -> str:
    """Return how often a row was drawn before, and what its loss was then."""
    if not row.history:
        return "new"
    last = row.history[-1]
    return f"{len(row.history)}×, {last.loss:.2f} at {last.step:,}"


def row_text(ids: "Iterable[int]", tokenizer: Tokenizer, most: int) -> str:
    """Return the tokens of a row as text on one line, at most about `most` columns; ids where there is no text."""
    first = [int(token) for token in list(ids)[: most + 1]]
    if isinstance(tokenizer, IdTokenizer):
        return " ".join(token_text(tokenizer, token) for token in first)
    return printable(decode(tokenizer, first).replace("\n", "↵").replace("\t", "→"))


def history_line(row: "RowLoss", width: int) -> Text:
    """Return when a row was drawn before, with its loss then; of many times the latest that fit."""
    if not row.history:
        return Text(f"drawn for the first time; loss {row.loss:.3f}")
    end = f" → {row.loss:.3f} now"
    shown: list[str] = []
    n_free = width - len("drawn before: … ") - len(end)
    for seen in reversed(row.history):
        part = f"{seen.loss:.3f} at step {seen.step:,}"
        if shown and len(", ".join([*shown, part])) > n_free:
            shown.append("…")
            break
        shown.append(part)
    return Text.assemble("drawn before: ", ", ".join(reversed(shown)), (end, "bold"), no_wrap=True, overflow="ellipsis")


def example_title(row: "RowLoss", n_rows: int) -> str:
    """Return which row of the step this is, and where it is in the source."""
    source = "" if row.offset is None else f", source tokens {row.offset:,} to {row.offset + len(row.x):,}"
    return f"example {row.example:,}, {row_name(row.row, n_rows)}{source}"


def side_title(step: "StepRows | None", name: str, width: int) -> Text:
    """Return the title of the list of the step before or after."""
    if step is None:
        return Text(set_cell_size(f"no step {name} is recorded", width), "dim")
    return Text(set_cell_size(f"step {step.step:,} ({name})  loss {short_number(step.loss)}", width), "bold")


def as_text(explanation: "Explanation", rows: "Sequence[RowLoss]", tokenizer: Tokenizer) -> str:
    """Return the step and its rows as text, to be copied."""
    suspects = {row.row for row in explanation.suspects}
    lines = [f"step {explanation.at.step}, loss {explanation.at.loss:.6g}"]
    for row in rows:
        mark = f"{SUSPECT} " if row.row in suspects else ""
        seen = "".join(f", {seen.loss:.4f} at step {seen.step}" for seen in row.history)
        lines.append(
            f"{mark}loss {row.loss:.4f}, example {row.example}{seen}: {row_text(row.x, tokenizer, len(row.x))}"
        )
    return "\n".join(lines)

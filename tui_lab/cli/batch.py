"""`tui-lab batch`: print the examples of a step, x over y."""

from collections.abc import Iterator, Sequence
from typing import Any

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from tui_lab.cli.output import console, write_json
from tui_lab.cli.show import open_data
from tui_lab.core.training.task_factory import build_loader
from tui_lab.data.dataset import IGNORED, Task
from tui_lab.data.loader import Batch
from tui_lab.data.tokenizers import show

SHOWN_IDS = 8
"""Examples of a batch that are listed by id."""
TITLE_WIDTH = 6
"""Columns of the names of the rows."""
SHOWN_POSITIONS = 8
"""Positions at which y is not the next x that are listed."""


def show_batch(source: str, overrides: Sequence[str], step: int, examples: int, *, as_json: bool) -> None:
    """Print the examples of the batch of a step, counted from 1, token by token."""
    config, task = open_data(source, overrides)
    batch = build_loader(config, task).batch(step - 1)
    if as_json:
        write_json(_batch_json(batch, task))
        return
    out = console()
    ids = ", ".join(f"{number:,}" for number in batch.ids[:SHOWN_IDS]) + (" …" if len(batch.ids) > SHOWN_IDS else "")
    order = batch.order
    head = ", ".join(f"{number:,}" for number in batch.head) + " …"
    if ids.startswith(head.removesuffix(" …")):
        head = "these examples:"
    out.print(
        f"step {step:,}: epoch {batch.epoch}, position {batch.position:,} of {order.n:,}\n"
        f"shuffle {order.mode}, seed {order.seed}, the order starts with {head}\n"
        f"examples {ids}"
    )
    for row in range(min(examples, len(batch.ids))):
        for line in _example_lines(batch, row, task, out.width):
            out.print(line)


def _example_lines(batch: Batch, row: int, task: Task, width: int) -> Iterator[Text]:
    """Yield an example: a title, blocks of position, x and y, and what is special about its targets."""
    source = "" if batch.offsets is None else f", from token {batch.offsets[row]:,} of the corpus"
    yield Text(f"\n{row + 1}/{len(batch.ids)}  example {batch.ids[row]:,}{source}", "bold")
    for number, block in enumerate(_blocks(_columns(batch, row, task), width - TITLE_WIDTH)):
        if number:
            yield Text()
        yield from block
    ignored = int((batch.y[row] == IGNORED).sum())
    if ignored:
        yield Text(f"{IGNORED}: no target here, ignored by the loss ({ignored} of {len(batch.y[row])})", "dim")
    if unlike := _unlike_next_x(batch, row, task):
        positions = ", ".join(map(str, unlike[:SHOWN_POSITIONS])) + (" …" if len(unlike) > SHOWN_POSITIONS else "")
        yield Text(f"y is not the next x at t = {positions}")


def _columns(batch: Batch, row: int, task: Task) -> list[tuple[str, ...]]:
    """Return for each position: t, x, y, and the ids of both where they differ from the texts of the tokens."""
    columns: list[tuple[str, ...]] = []
    for t, (x, y) in enumerate(zip(batch.x[row].tolist(), batch.y[row].tolist(), strict=True)):
        target = str(IGNORED) if y == IGNORED else show(task.tokenizer, y)
        columns.append((str(t), show(task.tokenizer, x), target, str(x), str(y)))
    if all((x, y) == (x_id, y_id) for _, x, y, x_id, y_id in columns):
        return [column[:3] for column in columns]
    return columns


def _blocks(columns: Sequence[tuple[str, ...]], width: int) -> Iterator[list[Text]]:
    """Yield as many columns as fit the width, one line per row of them."""
    titles = ("t", "x", "y", "x id", "y id")
    start = 0
    while start < len(columns):
        n_fitting, used = 0, 0
        cell_widths: list[int] = []
        for column in columns[start:]:
            cell_width = max(map(cell_len, column)) + 1
            if used + cell_width > width and n_fitting:
                break
            cell_widths.append(cell_width)
            used += cell_width
            n_fitting += 1
        block = columns[start : start + n_fitting]
        start += n_fitting
        yield [
            _line(titles[row], [column[row] for column in block], cell_widths, [column[2] for column in block])
            for row in range(len(columns[0]))
        ]


def _line(title: str, cells: Sequence[str], widths: Sequence[int], targets: Sequence[str]) -> Text:
    line = Text(f"{title:<{TITLE_WIDTH}}", no_wrap=True)
    for cell, width, target in zip(cells, widths, targets, strict=True):
        ignored = target == str(IGNORED)
        style = "dim" if title in ("t", "x id", "y id") or (title == "y" and ignored) else ""
        line.append(set_cell_size(cell, width), style)
    line.rstrip()
    return line


def _unlike_next_x(batch: Batch, row: int, task: Task) -> list[int]:
    """Return the positions whose target is not the next token, in a task that predicts the next token."""
    if not task.next_token:
        return []
    x, y = batch.x[row].tolist(), batch.y[row].tolist()
    return [t for t in range(len(x) - 1) if y[t] != IGNORED and y[t] != x[t + 1]]


def _batch_json(batch: Batch, task: Task) -> dict[str, Any]:
    order = batch.order
    return {
        "step": batch.step + 1,
        "epoch": batch.epoch,
        "position": batch.position,
        "order": {"mode": order.mode, "seed": order.seed, "n": order.n, "head": list(batch.head)},
        "ids": batch.ids.tolist(),
        "offsets": None if batch.offsets is None else batch.offsets.tolist(),
        "x": batch.x.tolist(),
        "y": batch.y.tolist(),
        "tokens": [[show(task.tokenizer, int(i)) for i in row] for row in batch.x],
    }

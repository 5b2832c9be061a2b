"""`tui-lab examples`: print what is known about the examples of a run."""

from collections.abc import Iterator

from rich.table import Table
from rich.text import Text

from tui_lab.cli.output import console, write, write_json
from tui_lab.cli.progress import preparing
from tui_lab.core.examples.examine import ExamplesRequest, examine_examples
from tui_lab.core.examples.measure import no_progress
from tui_lab.core.examples.report import Listed, Partition, ShownExample
from tui_lab.core.runs import folder as runs
from tui_lab.data.tokenizers import Tokenizer, show
from tui_lab.runs.examples_text import facts, place_text, summary_lines
from tui_lab.util.escape import printable

TARGETS = 4
"""Targets of an example that are printed, those of the largest losses."""
TEXT_LINES = 2
INDENT = "    "


def show_examples(name: str, request: ExamplesRequest, *, as_json: bool) -> None:
    """Print the answer to a question about a run's examples. Raises ConfigError, DataError or RunError."""
    run = runs.find(name)
    with preparing() as progress:
        report = examine_examples(run, request, progress or no_progress)
    if as_json:
        write_json(report.to_json())
        return
    for line in summary_lines(report):
        write(line)
    tokenizer = run.tokenizer()
    for number, listed in enumerate(report.listed, 1):
        _show(number, listed, tokenizer)
    for partition in report.partitions:
        _show_partition(partition)
    if report.leaked:
        write("\nvalidation examples that are in the training part")
    for number, listed in enumerate(report.leaked, 1):
        _show(number, listed, tokenizer)


def _show(number: int, listed: Listed, tokenizer: Tokenizer) -> None:
    out = console()
    out.print(Text(f"{number:>2}. {facts(listed)}", "bold"), soft_wrap=True)
    width = max(20, out.width - len(INDENT))
    text = _cut(listed.example.text, width * TEXT_LINES)
    for start in range(0, len(text), width):
        write(f"{INDENT}{text[start : start + width]}")
    for line in _target_lines(listed.example, tokenizer):
        out.print(Text(f"{INDENT}{line}", "dim"), soft_wrap=True)
    for place in () if listed.copies is None else listed.copies.places:
        out.print(Text(f"{INDENT}{place_text(place)}: {_cut(place.text, width)}", "dim"), soft_wrap=True)


def _cut(text: str, length: int) -> str:
    text = printable(text.replace("\n", "↵"))
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _target_lines(example: ShownExample, tokenizer: Tokenizer) -> Iterator[str]:
    """Give a line for each of the targets of the largest losses."""
    for t, loss in example.hardest_targets(TARGETS):
        line = f"t = {t}: loss {loss:.3f} at {show(tokenizer, example.y[t])}"
        if example.top and example.top[t][0] >= 0:
            line += f"; likeliest {show(tokenizer, example.top[t][0])} (p = {example.probabilities[t][0]:.2f})"
        yield line


def _show_partition(partition: Partition) -> None:
    write("")
    table = Table(partition.name)
    for column in ("targets", "% of targets", "loss", "% of loss", "wrong"):
        table.add_column(column, justify="right")
    for share in partition.classes:
        table.add_row(
            share.name,
            f"{share.n_targets:,}",
            f"{100 * share.share_of_targets:.1f}",
            "–" if share.loss is None else f"{share.loss:.4f}",
            f"{100 * share.share_of_loss:.1f}",
            f"{100 * share.wrong:.1f} %",
        )
    console().print(table)

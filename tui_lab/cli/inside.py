"""`tui-lab inside`: print what happens inside a run's model on one example."""

from tui_lab.cli.inside_ablation import print_ablation
from tui_lab.cli.inside_layers import print_layers, print_norms
from tui_lab.cli.inside_lens import print_lens
from tui_lab.cli.output import write, write_json
from tui_lab.cli.progress import preparing
from tui_lab.core.examples.inside import InsideReport, InsideRequest, inside_run
from tui_lab.core.examples.measure import no_progress
from tui_lab.core.inside.results import Ablation, LogitLens, StreamNorms
from tui_lab.core.runs import folder as runs
from tui_lab.runs.examples_text import PART_NAMES
from tui_lab.runs.examples_text import name as example_name

MOST_TEXT = 200
"""Characters of the example that are printed."""


def show_inside(name: str, request: InsideRequest, top: int, *, as_json: bool) -> None:
    """Print what was measured. top: how many positions and ablations, 0 for all.

    Raises ConfigError, DataError or RunError.
    """
    run = runs.find(name)
    with preparing() as progress:
        report = inside_run(run, request, progress or no_progress)
    if as_json:
        write_json(report.to_json())
        return
    write(f"{report.run}, step {report.step:,}: {_example_text(report)}")
    text = report.text.replace("\n", "↵")
    write(text if len(text) <= MOST_TEXT else f"{text[: MOST_TEXT - 1]}…")
    views = {
        "logit lens": report.lens,
        "ablation": report.ablation,
        "norms of the residual stream": report.norms,
    }
    for title, view in views.items():
        if isinstance(view, str):
            write(f"\n{title}\n{view}")
    if isinstance(report.lens, LogitLens):
        print_lens(report, report.lens, run.tokenizer(), top)
    if isinstance(report.ablation, Ablation):
        print_ablation(report.ablation, top)
    if isinstance(report.norms, StreamNorms):
        print_norms(report.norms)
    if report.layers is not None:
        print_layers(report.layers)


def _example_text(report: InsideReport) -> str:
    if report.example is None or report.part is None:
        return "your text"
    return f"{example_name(report.example, report.offset)} of the {PART_NAMES[report.part]}"

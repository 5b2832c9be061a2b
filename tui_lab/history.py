"""Commands that look back: earlier runs."""

import sys
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from core import runs, settings
from core.events import Changed
from core.runs import Run
from core.summary import summarise_digest
from data.visible import printable
from tui_lab.describe import describe
from tui_lab.inspect import write_json


def summary_of(run: Run) -> dict[str, Any]:
    """The run's summary, or one made from its events where it was killed before it could write its own."""
    return run.summary() or summarise_digest(run.digest()).summary(str(run.path))


def list_runs(*, as_json: bool) -> None:
    found = runs.list_runs()
    if as_json:
        write_json([summary_of(run) for run in found])
        return
    if not found:
        sys.stdout.write(f"no runs in {runs.runs_folder()} yet; make one: tui-lab run reverse\n")
        return
    table = Table("run", "state")
    for title in ("steps", "train loss", "val loss", "exact match"):
        table.add_column(title, justify="right")
    for run in found:
        summary = summary_of(run)
        values = (_number(summary[key]) for key in ("train_loss", "val_loss", "exact_match"))
        told = (Text(printable(str(text))) for text in (run.name, summary["reason"]))
        table.add_row(*told, f"{summary['steps']:,}", *values)
    Console().print(table)


def show_run(name: str, *, as_json: bool) -> None:
    run = runs.find(name)
    changes = [event.to_json() for event in run.digest().events() if isinstance(event, Changed)]
    if as_json:
        write_json(summary_of(run) | {"config": run.config().model_dump(mode="json"), "changed": changes})
        return
    sys.stdout.write(printable(describe(summary_of(run))) + "\n\n" + settings.to_toml(run.config()))
    for change in changes:
        words = f"step {change['step']:,}: {change['key']} {change['old']} → {change['new']}"
        sys.stdout.write(f"\n{printable(words)}")


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"

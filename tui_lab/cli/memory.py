"""`tui-lab memory`: what holds the memory of a training step, estimated and measured."""

import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from tui_lab.cli.output import console, write, write_json
from tui_lab.cli.progress import preparing
from tui_lab.cli.signals import interrupt_on_signals
from tui_lab.core.config import settings
from tui_lab.core.config.schema import Config
from tui_lab.core.kernels.autotune import with_kernels
from tui_lab.core.kernels.device import choose_device
from tui_lab.core.kernels.memory_breakdown import breakdown
from tui_lab.core.kernels.memory_estimate import size
from tui_lab.core.runs.unrecorded import read_source
from tui_lab.core.training.task_factory import build_task
from tui_lab.util.child import child_environment, python_module
from tui_lab.util.errors import TrainingError
from tui_lab.util.exit_codes import DONE
from tui_lab.util.strict_json import loads

ROWS = {
    "weights": "weights",
    "gradients": "gradients",
    "optimizer": "optimizer state",
    "activations": "activations of the layers",
    "head": "head and loss, until the backward pass",
    "logits": "logits and gradients of the head, for a moment",
    "batch": "batch",
    "copies": "copies for norm and update ratio",
    "step": "peak of a step",
    "checkpoint": "copies while a checkpoint is written (CPU)",
    "process": "the process without the model",
    "peak": "resident peak of the process",
}
"""The parts in the order of the table, and how they are called there."""
TOTALS_FROM = "step"


def show_memory(source: str, overrides: Sequence[str], *, measure: bool, as_json: bool) -> int:
    """Print a table, or JSON in bytes. A user's model is only measured. Raises TrainingError if that fails."""
    config = read_source(source, overrides, initial_weights=True).config
    with preparing(silent=as_json) as report:
        task = build_task(config, report)
    n_vocab = task.tokenizer.n_vocab
    config = with_kernels(config, n_vocab)
    on_cpu = choose_device(config.train.device).type == "cpu"
    estimated = {} if config.model.source else asdict(breakdown(config, n_vocab, on_cpu=on_cpu))
    measured = measured_memory(config) if measure or config.model.source else {}
    if as_json:
        write_json({"source": source, "n_vocab": n_vocab, "estimated": estimated or None, "measured": measured or None})
        return DONE
    console().print(table_of(estimated, measured))
    if not measured:
        write("measure it with --measure")
    return DONE


def measured_memory(config: Config) -> dict[str, Any]:
    """Train a few steps of `config` in a new process and return the fields of `MeasuredMemory`."""
    with tempfile.TemporaryDirectory() as folder, interrupt_on_signals():  # So that the process ends with this one.
        file = Path(folder) / "config.toml"
        out = Path(folder) / "memory.json"
        file.write_text(settings.to_toml(config), "utf-8")
        child = subprocess.run(
            python_module("tui_lab.core.training.memory_worker", str(file), str(out)),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            env=child_environment(),
            check=False,
        )
        result: dict[str, Any] = loads(out.read_text("utf-8")) if out.exists() else {}
    if child.returncode or "error" in result or not result:
        last_line = (child.stderr.strip().splitlines() or [""])[-1]
        raise TrainingError(str(result.get("error") or f"measuring ended with code {child.returncode}: {last_line}"))
    return result


def table_of(estimated: Mapping[str, int], measured: Mapping[str, Any]) -> Table:
    """Return the parts; with what was measured, also the error of the estimate in percent of that."""
    table = Table(title="Memory", title_justify="left")
    table.add_column("part")
    if estimated:
        table.add_column("estimated", justify="right")
    if measured:
        table.add_column("measured", justify="right")
    if estimated and measured:
        table.add_column("error", justify="right")
    for name, title in ROWS.items():
        guess = estimated.get(name)
        real = measured.get(name)
        if guess is None and real is None:
            continue
        if name == TOTALS_FROM:
            table.add_section()
        cells = [title]
        cells += [_size(guess)] if estimated else []
        cells += [_size(real)] if measured else []
        cells += [f"{100 * (guess / real - 1):+.1f}%" if guess and real else ""] if estimated and measured else []
        table.add_row(*map(Text, cells))
    return table


def _size(n: int | None) -> str:
    return "" if n is None else size(n)

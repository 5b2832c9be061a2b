"""Commands that look before training: presets, config, data and batches."""

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tui_lab.cli.output import stdout
from tui_lab.cli.progress import preparing
from tui_lab.core.config import settings
from tui_lab.core.config.schema import Config
from tui_lab.core.kernels.memory_estimate import check_memory
from tui_lab.core.kernels.parameter_count import parameter_table
from tui_lab.core.training.task_factory import build_loader, build_task
from tui_lab.data.dataset import IGNORED, Task
from tui_lab.data.loader import Batch
from tui_lab.data.tokenizers import show
from tui_lab.util.escape import printable
from tui_lab.util.strict_json import dumps


def open_data(source: str, overrides: Sequence[str]) -> tuple[Config, Task]:
    """A config and its task. Raises ConfigError or DataError."""
    config = settings.load(source, overrides)
    with preparing() as report:
        return config, build_task(config, report)


def write_json(value: Any) -> None:
    stdout().write(dumps(value) + "\n")


def write_figures(figures: dict[str, Any], *, as_json: bool, indent: str = "") -> None:
    """Nested figures as JSON, or a line each."""
    if as_json:
        write_json(figures)
        return
    for name, value in figures.items():
        if isinstance(value, dict):
            stdout().write(f"{indent}{name}\n")
            write_figures(value, as_json=False, indent=indent + "  ")
        else:
            numbers = value if isinstance(value, list) else [value]
            text = " … ".join(f"{n:.4g}" if isinstance(n, float) else str(n) for n in numbers)
            stdout().write(f"{indent}{name.replace('_', ' ')}: {text}\n")


def show_presets(*, as_json: bool) -> None:
    found = settings.presets() | settings.sweep_presets()
    if as_json:
        write_json({name: list(preset.header) for name, preset in found.items()})
        return
    console = Console(file=stdout())
    for name, preset in found.items():
        console.print(Text(name, style="bold"))
        for line in preset.header:
            console.print(Text(f"  {line}"), soft_wrap=True)


def show_config(source: str, overrides: Sequence[str], *, as_json: bool) -> None:
    config, task = open_data(source, overrides)
    n_vocab = task.tokenizer.n_vocab
    # Another model's parameters are known to its own file alone.
    rows = [] if config.model.source else parameter_table(config.model, n_vocab)
    total = sum(row.count for row in rows) if rows else None
    if as_json:
        parts = {row.symbol: row.count for row in rows}
        write_json(config.model_dump(mode="json") | {"parameters": {"total": total, "parts": parts}})
        return
    stdout().write(settings.to_toml(config) + "\n")
    if not rows:
        return
    table = Table("symbol", "size", title="Parameters", title_justify="left")
    table.add_column("count", justify="right")
    for row in rows:
        table.add_row(row.symbol, row.shape, f"{row.count:,}")
    table.add_section()
    table.add_row("total", "", f"{total:,}")
    # As comments, so that the whole output is a config file.
    console = Console(file=stdout(), width=Console(file=stdout()).width - 2)
    with console.capture() as capture:
        console.print(table)
    stdout().write("".join(f"# {line}\n" for line in capture.get().splitlines()))


def show_schema() -> None:
    stdout().write(dumps(Config.model_json_schema(), indent=2) + "\n")


def validate(source: str, overrides: Sequence[str]) -> None:
    config, task = open_data(source, overrides)
    build_loader(config, task)
    check_memory(config, task.tokenizer.n_vocab, on_cpu=config.train.device == "cpu")
    stdout().write(f"{printable(source)}: valid\n")


def show_data(source: str, overrides: Sequence[str], *, as_json: bool) -> None:
    config, task = open_data(source, overrides)
    loader = build_loader(config, task)
    info = {
        "task": task.name,
        "source": config.data.path if task.name == "text" else f"{config.data.length} of {config.data.n_digits} digits",
        "tokenizer": task.tokenizer.name,
        "n_vocab": task.tokenizer.n_vocab,
        "replaced characters": task.n_replaced,
        "tokens an example": task.train.length,
        "train examples": task.train.n_examples,
        "validation examples": task.val.n_examples,
        "examples an epoch": loader.order.n,
        "steps an epoch": round(loader.order.n / loader.drawn, 2),
    }
    if as_json:
        write_json({key.replace(" ", "_"): value for key, value in info.items()})
        return
    for key, value in info.items():
        stdout().write(f"{key:<20} {printable(value) if isinstance(value, str) else format(value, ',')}\n")


def show_batch(source: str, overrides: Sequence[str], step: int, examples: int, *, as_json: bool) -> None:
    config, task = open_data(source, overrides)
    batch = build_loader(config, task).batch(step)
    if as_json:
        write_json(_batch_json(batch, task))
        return
    console = Console(file=stdout())
    ids = ", ".join(str(i) for i in batch.ids[:8]) + (" …" if len(batch.ids) > 8 else "")
    console.print(
        f"step {step}: epoch {batch.epoch}, position {batch.position:,} of {batch.order.n:,}; "
        f"order {batch.order.mode}, seed {batch.order.seed}, begins {', '.join(map(str, batch.head))} …\n"
        f"examples {ids}",
        highlight=False,
    )
    for row in range(min(examples, len(batch.ids))):
        console.print(_example_table(batch, row, task))


def _example_table(batch: Batch, row: int, task: Task) -> Table:
    where = "" if batch.offsets is None else f", from token {batch.offsets[row]:,} of the corpus"
    table = Table("t", "x", "token", "y", "target", "", title=f"example {batch.ids[row]}{where}", title_justify="left")
    x, y = batch.x[row], batch.y[row]
    for t in range(len(x)):
        given, wanted = int(x[t]), int(y[t])
        ignored = wanted == IGNORED
        broken = task.next_token and t + 1 < len(x) and wanted != x[t + 1]
        note = "ignored by the loss" if ignored else "≠ the next x" if broken else ""
        target = "–" if ignored else show(task.tokenizer, wanted)
        cells = (str(t), str(given), show(task.tokenizer, given), str(wanted), target, note)
        table.add_row(*(Text(cell) for cell in cells), style="dim" if ignored else "")
    return table


def _batch_json(batch: Batch, task: Task) -> dict[str, Any]:
    order = batch.order
    return {
        "step": batch.step,
        "epoch": batch.epoch,
        "position": batch.position,
        "order": {"mode": order.mode, "seed": order.seed, "n": order.n, "head": list(batch.head)},
        "ids": batch.ids.tolist(),
        "offsets": None if batch.offsets is None else batch.offsets.tolist(),
        "x": batch.x.tolist(),
        "y": batch.y.tolist(),
        "tokens": [[show(task.tokenizer, int(i)) for i in row] for row in batch.x],
    }


def show_randomness(source: str, overrides: Sequence[str], step: int, *, as_json: bool, pin: bool) -> None:
    """Every source of randomness; with `pin` the config that pins them all, as TOML."""
    from tui_lab.core.training.reproducibility import ledger, pinned

    config, task = open_data(source, overrides)
    sources = ledger(config, task, step)
    if pin:
        stdout().write(settings.to_toml(pinned(config, sources)))
        return
    if as_json:
        write_json({"step": step, "sources": [found.to_json() for found in sources]})
        return
    table = Table(
        "source", "draws", "seed", "", "fingerprint", title=f"Randomness at step {step:,}", title_justify="left"
    )
    for found in sources:
        mark = Text("pinned", "green") if found.pinned else Text("free", "bold yellow")
        table.add_row(found.name, found.draws, found.seed, mark, found.fingerprint or "")
    Console(file=stdout()).print(table)


def show_faults(*, as_json: bool) -> None:
    from tui_lab.core.config.faults import FAULTS

    if as_json:
        write_json({name: {"part": f.part, "mistake": f.mistake, "finding": f.finding} for name, f in FAULTS.items()})
        return
    table = Table("fault", "part", "the mistake", box=None, pad_edge=False)
    for name, fault in FAULTS.items():
        table.add_row(name, fault.part, Text(fault.mistake))
    Console(file=stdout()).print(table)

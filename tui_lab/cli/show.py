"""Print presets, configs, data and faults."""

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from tui_lab.cli.output import console, stdout, write, write_json
from tui_lab.cli.progress import preparing
from tui_lab.core.config import settings
from tui_lab.core.config.schema import Config
from tui_lab.core.kernels.memory_estimate import check_memory
from tui_lab.core.kernels.parameter_count import parameter_table
from tui_lab.core.training.task_factory import build_loader, build_task
from tui_lab.data.dataset import Task


def open_data(source: str, overrides: Sequence[str]) -> tuple[Config, Task]:
    """Return a config and its task. Raises ConfigError or DataError."""
    config = settings.load(source, overrides)
    with preparing() as report:
        return config, build_task(config, report)


def show_presets(*, as_json: bool) -> None:
    """Print the presets with the comment at the head of each."""
    presets = settings.presets() | settings.sweep_presets()
    if as_json:
        write_json({name: list(preset.header) for name, preset in presets.items()})
        return
    out = console()
    for name, preset in presets.items():
        out.print(Text(name, style="bold"))
        for line in preset.header:
            out.print(Text(f"  {line}"), soft_wrap=True)


def show_config(source: str, overrides: Sequence[str], *, as_json: bool) -> None:
    """Print a config as TOML and its parameter count as TOML comments, so that the output is a config file."""
    config, task = open_data(source, overrides)
    # The parameters of a user's model are unknown here.
    rows = [] if config.model.source else parameter_table(config.model, task.tokenizer.n_vocab)
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
    out = console(width=console().width - len("# "))
    with out.capture() as capture:
        out.print(table)
    stdout().write("".join(f"# {line}\n" for line in capture.get().splitlines()))


def show_schema() -> None:
    """Print the JSON schema of a config file."""
    write_json(Config.model_json_schema(), indent=2)


def validate(source: str, overrides: Sequence[str]) -> None:
    """Check a config by itself and against its data. Raises ConfigError or DataError."""
    config, task = open_data(source, overrides)
    build_loader(config, task)
    check_memory(config, task.tokenizer.n_vocab, on_cpu=config.train.device == "cpu")
    write(f"{source}: valid")


def _source(config: Config) -> str:
    data = config.data
    if data.task == "text":
        return data.path
    if data.task == "reverse":
        return f"{data.length} of {data.n_digits} digits"
    return ", ".join(f"{name} = {value}" for name, value in data.options.items()) or "no options"


def show_data(source: str, overrides: Sequence[str], *, as_json: bool) -> None:
    """Print the sizes of a task: tokens, vocabulary, examples, steps per epoch."""
    config, task = open_data(source, overrides)
    loader = build_loader(config, task)
    sizes = {
        "task": task.name,
        "source": _source(config),
        "tokenizer": task.tokenizer.name,
        "n_vocab": task.tokenizer.n_vocab,
        "replaced characters": task.n_replaced,
        "tokens per example": task.train.length,
        "train examples": task.train.n_examples,
        "validation examples": task.val.n_examples,
        "examples per epoch": loader.order.n,
        "steps per epoch": loader.order.n / loader.drawn,
    }
    if as_json:
        write_json({key.replace(" ", "_"): value for key, value in sizes.items()})
        return
    for key, value in sizes.items():
        if isinstance(value, float):
            value = round(value, 0 if value >= 10 else 2)
        write(f"{key:<20} {value if isinstance(value, str) else format(value, ',')}")


def show_faults(*, as_json: bool) -> None:
    """Print the faults that a config can plant."""
    from tui_lab.core.config.faults import FAULTS

    if as_json:
        write_json(
            {name: {"part": f.part, "description": f.description, "finding": f.finding} for name, f in FAULTS.items()}
        )
        return
    table = Table("fault", "part", "what it does", box=None, pad_edge=False)
    for name, fault in FAULTS.items():
        table.add_row(name, fault.part, Text(fault.description))
    console().print(table)

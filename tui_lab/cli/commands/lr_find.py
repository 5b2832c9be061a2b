"""`tui-lab lr-find`."""

from pathlib import Path
from typing import Annotated

import typer

from tui_lab.cli.options import AllowCode, Json, Quiet, Sets, complete_any, trust_code
from tui_lab.cli.output import user_prints_to_stderr

commands = typer.Typer()

Tested = Annotated[
    str,
    typer.Argument(
        metavar="PRESET|CONFIG|RUN",
        help="What to train for a moment; a run continues from its checkpoint, and is not changed.",
        autocompletion=complete_any,
    ),
]
Low = Annotated[
    float | None, typer.Option(metavar="LR", help="The lowest rate; by default 1e-6, or 1e-4 for sgd and momentum.")
]
High = Annotated[
    float | None, typer.Option(metavar="LR", help="The highest rate; by default 1, or 100 for sgd and momentum.")
]


@commands.command("lr-find")
@user_prints_to_stderr()
def lr_find(
    source: Tested,
    sets: Sets = None,
    low: Low = None,
    high: High = None,
    rates: Annotated[int, typer.Option(metavar="N", min=10, max=10_000, help="Updates, one for each rate.")] = 100,
    seeds: Annotated[
        int, typer.Option(metavar="N", min=1, max=100, help="Repeat with N seeds, and print the spread.")
    ] = 1,
    initial: Annotated[
        bool, typer.Option("--initial", metavar="", help="Of a run: start from initial weights, not its checkpoint.")
    ] = False,
    save: Annotated[
        Path | None, typer.Option(metavar="FILE.toml", help="Write the config with the suggested rate to a new file.")
    ] = None,
    allow_code: AllowCode = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Find a learning rate: train for a moment while it rises, and see where the loss falls and where it diverges."""
    from tui_lab.cli import lr_find as implementation

    trust_code(sets, allow_code, source=source)
    request = implementation.Request(source, tuple(sets or []), low, high, rates, seeds, initial)
    raise typer.Exit(implementation.find(request, save, as_json=json, quiet=quiet))

"""`tui-lab lr-find`."""

from pathlib import Path
from typing import Annotated

import typer

from tui_lab.cli.options import AllowCode, Json, Quiet, ScriptArguments, ScriptModule, Sets, complete_any, trust_code
from tui_lab.cli.output import user_prints_to_stderr

commands = typer.Typer()

Tested = Annotated[
    str | None,
    typer.Argument(
        metavar="PRESET|CONFIG|RUN|SCRIPT.py",
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
Rates = Annotated[int, typer.Option(metavar="N", min=10, max=10_000, help="Updates, one for each rate.")]
Seeds = Annotated[int, typer.Option(metavar="N", min=1, max=100, help="Repeat with N seeds, and print the spread.")]
Initial = Annotated[
    bool, typer.Option("--initial", metavar="", help="For runs: start from initial weights, not its checkpoint.")
]
Save = Annotated[
    Path | None, typer.Option(metavar="FILE.toml", help="Write the config with the suggested rate to a new file.")
]


@commands.command("lr-find")
@user_prints_to_stderr()
def lr_find(
    source: Tested = None,
    arguments: ScriptArguments = None,
    module: ScriptModule = None,
    sets: Sets = None,
    low: Low = None,
    high: High = None,
    rates: Rates = 100,
    seeds: Seeds = 1,
    initial: Initial = False,
    save: Save = None,
    allow_code: AllowCode = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Find a learning rate: train for a moment while it rises, and see where the loss falls and where it diverges.

    A SCRIPT.py runs unchanged but for its rate. It writes no checkpoint and changes no existing file.
    """
    from tui_lab.cli import lr_find as implementation
    from tui_lab.cli.lr_find_subjects import subject_of
    from tui_lab.cli.script_argument import script_to_run
    from tui_lab.core.training.range_points import RateRange

    trust_code(sets, allow_code, source=source)
    script = script_to_run("lr-find", source, arguments or [], module)
    only_for_configs = {"--set": bool(sets), "--initial": initial, "--save": save is not None}
    subject = subject_of(
        source or "",
        script,
        RateRange(rates, low, high),
        sets or [],
        initial_weights=initial,
        only_for_configs=only_for_configs,
    )
    raise typer.Exit(implementation.find(subject, rates, seeds, save, as_json=json, quiet=quiet))

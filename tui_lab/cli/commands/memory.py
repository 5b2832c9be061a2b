"""`tui-lab memory`."""

from typing import Annotated

import typer

from tui_lab.cli.options import AllowCode, Json, Sets, complete_any, trust_code
from tui_lab.cli.output import user_prints_to_stderr

commands = typer.Typer()


@commands.command("memory")
@user_prints_to_stderr()
def memory(
    source: Annotated[
        str,
        typer.Argument(metavar="PRESET|CONFIG|RUN", help="Whose steps to look at.", autocompletion=complete_any),
    ],
    sets: Sets = None,
    measure: Annotated[
        bool, typer.Option("--measure", metavar="", help="Also train three steps in a new process, and measure them.")
    ] = False,
    allow_code: AllowCode = False,
    json: Json = False,
) -> None:
    """Show what holds the memory of a training step: weights, gradients, optimizer, activations, logits, batch."""
    from tui_lab.cli.memory import show_memory

    trust_code(sets, allow_code, source=source)
    raise typer.Exit(show_memory(source, sets or [], measure=measure, as_json=json))

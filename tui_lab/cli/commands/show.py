"""`tui-lab batch`, `presets` and `faults`: look at things before training."""

from typing import Annotated

import typer

from tui_lab.cli.options import LAST_STEP, Json, Sets, Source

commands = typer.Typer()


@commands.command("batch")
def batch(
    source: Source,
    step: Annotated[int, typer.Option(min=1, max=LAST_STEP, help="The step, past or future, counted from 1.")] = 1,
    examples: Annotated[int, typer.Option(min=1, help="How many examples to print.")] = 1,
    sets: Sets = None,
    json: Json = False,
) -> None:
    """Show the examples of a step, token by token: x over y."""
    from tui_lab.cli.batch import show_batch

    show_batch(source, sets or [], step, examples, as_json=json)


@commands.command("presets")
def presets(json: Json = False) -> None:
    """List the presets: command, expected time, expected result."""
    from tui_lab.cli.show import show_presets

    show_presets(as_json=json)


@commands.command("faults")
def faults(json: Json = False) -> None:
    """List the faults that `faults = [...]` in a config can plant."""
    from tui_lab.cli.show import show_faults

    show_faults(as_json=json)

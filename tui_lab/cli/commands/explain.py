"""`tui-lab explain`."""

from enum import StrEnum
from typing import Annotated

import typer

from tui_lab.cli.options import LAST_STEP, AllowCode, Json, OneRun, trust_code
from tui_lab.cli.output import user_prints_to_stderr

commands = typer.Typer()


class RewindHow(StrEnum):
    skip = "skip"
    lower_lr = "lower-lr"


@commands.command("explain")
@user_prints_to_stderr()
def explain(
    run: OneRun,
    step: Annotated[
        int | None, typer.Option(min=1, max=LAST_STEP, help="The step to explain; by default the largest spike.")
    ] = None,
    rewind: Annotated[
        RewindHow | None,
        typer.Option(help="Train again from before the spike, without its rows or with half the learning rate."),
    ] = None,
    top: Annotated[
        int | None,
        typer.Option(min=0, help="How many rows of the step, or of the run, to list; 0: all. By default 16 and 10."),
    ] = None,
    allow_code: AllowCode = False,
    json: Json = False,
) -> None:
    """Show which rows made the train loss spike, with their history; train again without them."""
    from tui_lab.cli.explain import explain_run

    trust_code(None, allow_code, run=run)
    raise typer.Exit(explain_run(run, step, None if rewind is None else rewind.value, top, as_json=json))

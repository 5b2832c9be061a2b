"""`tui-lab report`."""

from pathlib import Path
from typing import Annotated

import typer

from tui_lab.cli.output import stdout, user_prints_to_stderr

commands = typer.Typer()


@commands.command("report")
@user_prints_to_stderr()
def report(
    source: Annotated[str, typer.Argument(metavar="RUN|SWEEP", help="A run's or sweep's folder or name.")],
    to: Annotated[Path, typer.Option(metavar="FILE.html", help="The file to write; it is self-contained.")],
    prompt: Annotated[
        list[str] | None, typer.Option(help="A text for the model to continue; by default held-out examples.")
    ] = None,
) -> None:
    """Write an HTML page: curves, settings, changes, samples, findings, sources of randomness, environment."""
    from tui_lab.report.write import write_report

    write_report(source, to, prompt or [])
    stdout().write(f"{to}\n")

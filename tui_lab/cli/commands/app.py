"""`tui-lab app` and `tui-lab serve`."""

from typing import Annotated

import typer

from tui_lab.cli.options import (
    AllowCode,
    Sets,
    SourceOrRun,
    Steps,
    complete_any,
    complete_run,
    overrides_of,
    trust_code,
)
from tui_lab.util.errors import ConfigError
from tui_lab.util.extras import require
from tui_lab.util.terminal import why_no_app

commands = typer.Typer()


@commands.command("app")
def open_app(
    source: SourceOrRun = None,
    sets: Sets = None,
    resume: Annotated[
        str | None,
        typer.Option(metavar="RUN", help="Resume a run from its last checkpoint.", autocompletion=complete_run),
    ] = None,
    steps: Steps = None,
    allow_code: AllowCode = False,
    keys: Annotated[
        bool, typer.Option("--keys", metavar="", help="Print the default keys as TOML, for your keymap, and exit.")
    ] = False,
) -> None:
    """Open the app: watch and steer a run live. Without PRESET, CONFIG or RUN it starts at Home."""
    if keys:
        from tui_lab.app.keymap import default_toml

        typer.echo(default_toml(), nl=False)
        return
    if resume is not None and (source or sets):
        raise ConfigError.of("conflict", "not with a PRESET, CONFIG or RUN, and not with --set", key="--resume")
    if reason := why_no_app():
        raise ConfigError.of("unavailable", f"the app {reason}; without one use: tui-lab run PRESET")
    from tui_lab.app.main import main as run_app

    trust_code(sets, allow_code, source=source, run=resume)
    if resume is not None:
        raise typer.Exit(run_app(resume=resume, steps=steps))
    raise typer.Exit(run_app(source, overrides_of(sets, steps)))


@commands.command("serve")
def serve(
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="PRESET|CONFIG|RUN",
            help="Start a preset or config; follow a run in training, or replay a finished one.",
            autocompletion=complete_any,
        ),
    ] = None,
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="A loopback address, unless you accept the risk.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(metavar="N", min=1, max=65535, help="The port to listen on.")] = 8000,
    risk: Annotated[
        bool,
        typer.Option(
            "--i-understand-the-risk",
            metavar="",
            help="Anyone who can reach the port can train, read and write files as you.",
        ),
    ] = False,
) -> None:
    """Serve the app to a browser on this machine."""
    require("textual_serve", extra="serve", feature="tui-lab serve")
    from tui_lab.cli.serve import serve as serve_app

    serve_app(source, host, port, risk=risk)

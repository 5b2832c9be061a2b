"""`tui-lab speed`."""

from typing import Annotated

import typer

from tui_lab.cli.options import Json, ScriptArguments, ScriptModule, complete_any
from tui_lab.cli.output import user_prints_to_stderr
from tui_lab.util.errors import ConfigError

commands = typer.Typer()

Measured = Annotated[
    str | None,
    typer.Argument(
        metavar="RUN|SCRIPT.py", help="What to measure; for a RUN, its script.", autocompletion=complete_any
    ),
]
Seconds = Annotated[
    float | None,
    typer.Option(min=5, max=3600, help="Measure for this long, or as long as five rounds take; default: 40."),
]
Compile = Annotated[bool, typer.Option("--compile", metavar="", help="Also try torch.compile, which may take minutes.")]


@commands.command("speed")
@user_prints_to_stderr()
def speed(
    source: Measured = None,
    arguments: ScriptArguments = None,
    module: ScriptModule = None,
    seconds: Seconds = None,
    compile_too: Compile = False,
    json: Json = False,
) -> None:
    """Show where the time of a script's steps goes, by part and by line, and which changes make them faster.

    The script runs as it is and with one change at a time, by turns: bfloat16 autocast, fused optimizers, threads.
    It writes no checkpoint and changes no existing file.
    """
    from tui_lab.cli.script_argument import script_suggested, script_to_run
    from tui_lab.cli.speed import show_speed
    from tui_lab.core.watch.speed.script_speed import SECONDS

    if source is None and module is None:
        raise ConfigError.of("missing", "name a SCRIPT.py or RUN", key="speed")
    with script_suggested(source or ""):
        script = script_to_run("speed", source, arguments or [], module)
        if script is None:
            message = "needs a script; `tui-lab bench train` measures presets"
            raise ConfigError.of("conflict", message, key="speed", value=source)
    raise typer.Exit(show_speed(script, seconds or SECONDS, compile_too=compile_too, as_json=json))

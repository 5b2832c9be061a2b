"""`tui-lab memory`."""

from typing import Annotated

import typer

from tui_lab.cli.options import AllowCode, Json, ScriptArguments, ScriptModule, Sets, complete_any, trust_code
from tui_lab.cli.output import user_prints_to_stderr
from tui_lab.util.errors import ConfigError

commands = typer.Typer()

Looked = Annotated[
    str | None,
    typer.Argument(metavar="PRESET|CONFIG|RUN|SCRIPT.py", help="What to measure.", autocompletion=complete_any),
]
Measure = Annotated[
    bool,
    typer.Option(
        "--measure",
        metavar="",
        help="Also train three steps in a new process and measure them, as for scripts.",
    ),
]
ScriptSteps = Annotated[
    int | None, typer.Option(metavar="N", min=4, max=1000, help="For scripts: end after N updates; by default 6.")
]


@commands.command("memory")
@user_prints_to_stderr()
def memory(
    source: Looked = None,
    arguments: ScriptArguments = None,
    module: ScriptModule = None,
    sets: Sets = None,
    measure: Measure = False,
    steps: ScriptSteps = None,
    allow_code: AllowCode = False,
    json: Json = False,
) -> None:
    """Show what holds the memory of a training step: weights, gradients, optimizer, activations, logits, batch.

    A SCRIPT.py runs unchanged for a few updates. It writes no checkpoint and changes no existing file.
    """
    from tui_lab.cli.script_argument import refuse_for_script, script_suggested, script_to_run

    trust_code(sets, allow_code, source=source)
    script = script_to_run("memory", source, arguments or [], module)
    if script is not None:
        from tui_lab.cli.memory_script import show_script_memory

        refuse_for_script({"--set": bool(sets)})
        raise typer.Exit(show_script_memory(script, steps, as_json=json))
    from tui_lab.cli.memory import show_memory

    if steps is not None:
        raise ConfigError.of("conflict", "only a SCRIPT.py is ended after some updates", key="--steps", value=steps)
    with script_suggested(source or ""):
        raise typer.Exit(show_memory(source or "", sets or [], measure=measure, as_json=json))

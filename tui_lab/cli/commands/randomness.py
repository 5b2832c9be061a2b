"""`tui-lab randomness`."""

from typing import Annotated

import typer

from tui_lab.cli.options import (
    LAST_STEP,
    AllowCode,
    Json,
    ScriptArguments,
    ScriptModule,
    Sets,
    complete_any,
    trust_code,
)
from tui_lab.cli.output import user_prints_to_stderr
from tui_lab.util.errors import ConfigError

commands = typer.Typer()

Drawn = Annotated[
    str | None,
    typer.Argument(
        metavar="PRESET|CONFIG|RUN|SCRIPT.py",
        help="What to check; for a RUN, its script.",
        autocompletion=complete_any,
    ),
]
Step = Annotated[
    int | None,
    typer.Option(
        min=1, max=LAST_STEP, help="For presets and configs: the step, past or future, counted from 1; by default 1."
    ),
]
Steps = Annotated[
    int | None, typer.Option(min=1, max=LAST_STEP, help="For scripts: the updates of each run; by default 5.")
]
Pin = Annotated[
    bool, typer.Option("--pin", metavar="", help="For presets and configs: print it with every source pinned.")
]


@commands.command("randomness")
@user_prints_to_stderr()
def randomness(
    source: Drawn = None,
    arguments: ScriptArguments = None,
    module: ScriptModule = None,
    step: Step = None,
    steps: Steps = None,
    pin: Pin = False,
    sets: Sets = None,
    allow_code: AllowCode = False,
    json: Json = False,
) -> None:
    """Say whether two runs of a script are the same, and why not; list the sources of randomness of a config.

    A SCRIPT.py runs twice, unchanged, for some updates. If the runs differ, more runs find out why. Exit 1 if they do,
    4 if they could not be compared in full. No file stays changed.
    """
    from tui_lab.cli import randomness as implementation
    from tui_lab.cli.script_argument import refuse_for_script, script_to_run
    from tui_lab.core.watch.randomness.verdict import STEPS

    trust_code(sets, allow_code, source=source)
    script = script_to_run("randomness", source, arguments or [], module)
    if script is not None:
        refuse_for_script({"--step": step is not None, "--pin": pin, "--set": bool(sets)})
        raise typer.Exit(implementation.examine_script(script, steps or STEPS, as_json=json))
    if steps is not None:
        raise ConfigError.of("conflict", "needs a script: the numbers of a config are computed", key="--steps")
    implementation.show_sources(source or "", sets or [], step or 1, as_json=json, pin=pin)

"""`tui-lab doctor`."""

from pathlib import Path
from typing import Annotated, NoReturn

import typer

from tui_lab.cli.options import (
    AllowCode,
    Json,
    Junit,
    ScriptArguments,
    ScriptModule,
    Sets,
    complete_any,
    complete_code,
    trust_code,
)
from tui_lab.cli.output import user_prints_to_stderr
from tui_lab.util.errors import ConfigError

commands = typer.Typer()


Examined = Annotated[
    str | None,
    typer.Argument(
        metavar="PRESET|CONFIG|RUN|SCRIPT.py|FILE.py:NAME", help="What to diagnose.", autocompletion=complete_any
    ),
]
Updates = Annotated[
    int | None,
    typer.Option(min=1, help="Examine a script after this many updates; by default 50, or up to 250 within 3 s."),
]
Seconds = Annotated[
    float, typer.Option(min=0, help="Examine a script this long after its first update, at the latest.")
]
Timeout = Annotated[
    float | None,
    typer.Option(min=1, help="Time limit for user code, in seconds; by default 300 for a script, 60 for FILE.py:NAME."),
]
SelfTest = Annotated[
    bool, typer.Option("--self-test", metavar="", help="Test the doctor: every planted fault in every design.")
]
Environment = Annotated[
    bool,
    typer.Option("--environment", metavar="", help="Report versions, devices, terminal, folders, and what is missing."),
]
Explain = Annotated[
    str | None,
    typer.Option(metavar="CODE|CHECK|list", help="Say what a finding or a check means.", autocompletion=complete_code),
]
Sarif = Annotated[
    Path | None, typer.Option(metavar="FILE.json", help="Write the findings as SARIF, for code scanning.")
]


@commands.command("doctor")
@user_prints_to_stderr()
def doctor(
    source: Examined = None,
    arguments: ScriptArguments = None,
    module: ScriptModule = None,
    sets: Sets = None,
    updates: Updates = None,
    seconds: Seconds = 20.0,
    timeout: Timeout = None,
    self_test: SelfTest = False,
    seed: Annotated[int, typer.Option(min=0, help="Seed for the self-test's shapes.")] = 0,
    environment: Environment = False,
    explain: Explain = None,
    junit: Junit = None,
    sarif: Sarif = None,
    allow_code: AllowCode = False,
    json: Json = False,
) -> None:
    """Find why a model does not learn. Exit 1 if something is found, 4 if a check crashed.

    A SCRIPT.py runs unchanged for some updates, which are examined. It writes no checkpoint and changes no existing
    file.
    """
    from tui_lab.cli import doctor as implementation
    from tui_lab.cli import script_doctor
    from tui_lab.cli.doctor_output import DoctorOutput
    from tui_lab.core.doctor.script.process import Limits

    if environment:
        _report_environment(source or module, as_json=json)
    if explain is not None:
        implementation.explain(explain, as_json=json)
        raise typer.Exit
    trust_code(sets, allow_code, source=source)
    if self_test:
        raise typer.Exit(implementation.self_test(seed, as_json=json))
    with DoctorOutput(module or source or "", junit, sarif, as_json=json) as output:
        named = (source, arguments or [], module, sets or [])
        name, report = script_doctor.examine_any(*named, Limits(updates, seconds, timeout), is_quiet=json)
    output.write(report, name)
    raise typer.Exit(implementation.exit_code(report))


def _report_environment(source: str | None, *, as_json: bool) -> NoReturn:
    if source:
        raise ConfigError.of("conflict", "reports on this machine, so name nothing to diagnose", key="--environment")
    from tui_lab.cli.environment.report import report

    raise typer.Exit(report(as_json=as_json))

"""`tui-lab doctor`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tui_lab.cli.options import AllowCode, Json, Junit, Sets, complete_any, complete_code, trust_code
from tui_lab.cli.output import say, user_prints_to_stderr, write_json
from tui_lab.util.errors import LabError

if TYPE_CHECKING:
    from tui_lab.core.doctor.findings import Report

commands = typer.Typer()


@commands.command("doctor")
@user_prints_to_stderr()
def doctor(
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="PRESET|CONFIG|RUN|SCRIPT.py|FILE.py:NAME", help="What to diagnose.", autocompletion=complete_any
        ),
    ] = None,
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="-- ARGS…", help="Arguments of SCRIPT.py.", show_default=False)
    ] = None,
    module: Annotated[
        str | None, typer.Option("-m", metavar="MODULE", help="A module in place of SCRIPT.py, as for python -m.")
    ] = None,
    sets: Sets = None,
    updates: Annotated[
        int | None,
        typer.Option(min=1, help="Examine a script after this many updates; by default 50, or up to 250 within 3 s."),
    ] = None,
    seconds: Annotated[
        float, typer.Option(min=0, help="Examine a script this long after its first update, at the latest.")
    ] = 20.0,
    timeout: Annotated[
        float | None,
        typer.Option(
            min=1, help="Time limit for user code, in seconds; by default 300 for a script, 60 for FILE.py:NAME."
        ),
    ] = None,
    self_test: Annotated[
        bool, typer.Option("--self-test", metavar="", help="Test the doctor: every planted fault in every design.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Seed for the self-test's shapes.")] = 0,
    explain: Annotated[
        str | None,
        typer.Option(
            metavar="CODE|CHECK|list", help="Say what a finding or a check means.", autocompletion=complete_code
        ),
    ] = None,
    junit: Junit = None,
    sarif: Annotated[
        Path | None, typer.Option(metavar="FILE.json", help="Write the findings as SARIF, for code scanning.")
    ] = None,
    allow_code: AllowCode = False,
    json: Json = False,
) -> None:
    """Find why a model does not learn. Exit 1 if something is found, 4 if a check crashed.

    A SCRIPT.py runs unchanged for some updates; what it does is recorded and examined. It writes no checkpoints and
    changes no existing file.
    """
    from tui_lab.cli import doctor as implementation
    from tui_lab.cli import result_file, script_doctor
    from tui_lab.core.doctor.script.process import Limits

    if explain is not None:
        implementation.explain(explain, as_json=json)
        raise typer.Exit
    trust_code(sets, allow_code, source=source)
    if self_test:
        raise typer.Exit(implementation.self_test(seed, as_json=json))
    result_file.prepare(junit, "--junit")
    result_file.prepare(sarif, "--sarif")
    try:
        script = script_doctor.script_of(source, arguments or [], module)
        if script is not None:
            name, report = script.script, script_doctor.examine(script, sets or [], Limits(updates, seconds, timeout))
        else:
            name, report = script_doctor.examine_other(source, sets or [], timeout)
    except LabError as error:
        _write_error(error, module or source or "", junit, sarif, as_json=json)
        raise
    except KeyboardInterrupt:
        say("doctor: interrupted; there is no report")
        raise
    _write(report, name, junit, sarif, as_json=json)
    raise typer.Exit(implementation.exit_code(report))


def _write_error(error: LabError, source: str, junit: Path | None, sarif: Path | None, *, as_json: bool) -> None:
    """Write why there is no report, where a report was asked for as a file or as JSON."""
    from tui_lab.cli import junit as junit_file
    from tui_lab.cli import sarif as sarif_file

    if junit is not None:
        junit_file.write(junit, f"doctor {source}", [junit_file.TestCase("start", "error", str(error))])
    if sarif is not None:
        sarif_file.write_error(sarif, str(error))
    if as_json:
        write_json({"source": source, "error": str(error), "codes": [problem.code for problem in error.problems]})


def _write(report: "Report", source: str, junit: Path | None, sarif: Path | None, *, as_json: bool) -> None:
    """Write the report to the files that were asked for, and to stdout."""
    from tui_lab.cli import doctor as implementation
    from tui_lab.cli import junit as junit_file
    from tui_lab.cli import sarif as sarif_file

    if junit is not None:
        junit_file.write(junit, f"doctor {source}", junit_file.report_cases(report))
    if sarif is not None:
        sarif_file.write(sarif, report, source)
    if as_json:
        write_json({"source": source, **report.to_json()})
    else:
        implementation.show(report, source)

"""`tui-lab doctor`."""

from pathlib import Path
from typing import Annotated

import typer

from tui_lab.cli.options import AllowCode, Json, Junit, Sets, complete_any, complete_code, trust_code
from tui_lab.cli.output import user_prints_to_stderr, write_json
from tui_lab.util.errors import ConfigError

commands = typer.Typer()


@commands.command("doctor")
@user_prints_to_stderr()
def doctor(
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="[PRESET|CONFIG|RUN|FILE.py:NAME]", help="What to diagnose.", autocompletion=complete_any
        ),
    ] = None,
    sets: Sets = None,
    timeout: Annotated[float, typer.Option(min=1, help="Time limit for FILE.py:NAME, in seconds.")] = 60.0,
    self_test: Annotated[
        bool, typer.Option("--self-test", metavar="", help="Test the doctor: every planted fault in every design.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Seed for the self-test's shapes.")] = 0,
    explain: Annotated[
        str | None, typer.Option(metavar="CODE", help="Say what a finding's code means.", autocompletion=complete_code)
    ] = None,
    junit: Junit = None,
    sarif: Annotated[
        Path | None, typer.Option(metavar="FILE.json", help="Write the findings as SARIF, for code scanning.")
    ] = None,
    allow_code: AllowCode = False,
    json: Json = False,
) -> None:
    """Find why a model does not learn. Exit 1 if something is found, 4 if a check crashed."""
    from tui_lab.cli import doctor as implementation
    from tui_lab.cli import junit as junit_file
    from tui_lab.cli import result_file
    from tui_lab.cli import sarif as sarif_file
    from tui_lab.core.doctor.diagnose import examine_source

    if explain is not None:
        implementation.explain(explain, as_json=json)
        raise typer.Exit
    trust_code(sets, allow_code, source=source)
    if self_test:
        raise typer.Exit(implementation.self_test(seed, as_json=json))
    if source is None:
        raise ConfigError.of("missing", "name a PRESET, CONFIG, RUN or FILE.py:NAME", key="doctor")
    result_file.prepare(junit, "--junit")
    result_file.prepare(sarif, "--sarif")
    report = examine_source(source, sets or [], timeout)
    if junit is not None:
        junit_file.write(junit, f"doctor {source}", junit_file.report_cases(report))
    if sarif is not None:
        sarif_file.write(sarif, report, source)
    if json:
        write_json({"source": source, **report.to_json()})
    else:
        implementation.show(report, source)
    raise typer.Exit(implementation.exit_code(report))

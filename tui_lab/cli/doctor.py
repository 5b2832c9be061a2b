"""`tui-lab doctor`: print the doctor's report, or run its self-test."""

from tui_lab.cli.output import stdout
from tui_lab.core.doctor.findings import Finding, Report
from tui_lab.util.escape import printable
from tui_lab.util.exit_codes import DONE, NOT_JUDGED, NOT_MET


def exit_code(report: Report) -> int:
    if report.findings:
        return NOT_MET
    return NOT_JUDGED if report.crashed else DONE


def show(report: Report, title: str) -> None:
    """Print the report on stdout, the checks that crashed first: without them it is not complete."""
    from rich.console import Console
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    console, title = Console(file=stdout(), highlight=False), printable(title)
    if report.crashed:
        console.print(Text(report.crash_count, style="bold red"))
        for error, checks in report.crashes.items():
            console.print(Text(f"  {', '.join(checks)}: {printable(error)}"), soft_wrap=True)
        console.print()
    for number, finding in enumerate(report.findings, 1):
        console.print(
            Text.assemble((f"{number}. {printable(finding.verdict)}", "bold red"), (f"  [{finding.code}]", "dim"))
        )
        grid = Table.grid(padding=(0, 1), pad_edge=True)
        grid.add_column(style="bold", width=9)
        grid.add_column(ratio=1)
        for name, text in parts(finding):
            grid.add_row(name, Text(text))
        console.print(Padding(grid, (0, 0, 0, 2)))
        for line in finding.drawing:
            console.print(Text(f"      {printable(line)}"), soft_wrap=True)
        console.print()
    done = len(report.passed)
    if report.healthy:
        console.print(Text(f"{title}: nothing found", style="bold green"))
    console.print(Text(f"{done} checks passed: {', '.join(report.passed)}", style="dim"))
    for reason in dict.fromkeys(skipped.reason for skipped in report.skipped):
        names = ", ".join(skipped.check for skipped in report.skipped if skipped.reason == reason)
        console.print(Text(f"skipped {names}: {printable(reason)}", style="dim"))


def parts(finding: Finding) -> tuple[tuple[str, str], ...]:
    return tuple((name, printable(getattr(finding, name))) for name in ("evidence", "why", "fix"))


def self_test(seed: int, *, as_json: bool) -> int:
    """Examine every fault in every design; the exit code. JSON: a line each, the summary last."""
    from tui_lab.core.doctor.selftest.matrix import summary, trials
    from tui_lab.util.strict_json import dumps

    rows = []
    for trial in trials(seed):
        row = trial.run()
        rows.append(row)
        if as_json:
            stdout().write(dumps({"event": "case", **row.to_json()}) + "\n")
        elif not row.right:
            stdout().write(f"{row.design}, {row.fault or 'healthy'}, seed {row.seed}: found {list(row.found)}\n")
        stdout().flush()
    found = summary(rows)
    if as_json:
        stdout().write(dumps({"event": "summary", **found}) + "\n")
    else:
        stdout().write(
            f"{found['named_first']} of {found['faulty']} faulty cases named first, "
            f"{found['false_alarms']} false alarms in {found['healthy']} healthy ones, {found['seconds']} s\n"
        )
        if found["not_available"]:
            stdout().write(f"not installed, so not examined: {', '.join(found['not_available'])}\n")
    return 0 if not found["misses"] else 1

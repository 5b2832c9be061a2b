"""`tui-lab doctor`: print the doctor's report, or run its self-test."""

from typing import TYPE_CHECKING

from tui_lab.cli.output import stdout
from tui_lab.core.doctor.findings import Finding, Report
from tui_lab.util.escape import printable
from tui_lab.util.exit_codes import DONE, NOT_JUDGED, NOT_MET

if TYPE_CHECKING:
    from rich.console import Console


def exit_code(report: Report) -> int:
    """Return the exit code that the report stands for."""
    if report.findings:
        return NOT_MET
    return NOT_JUDGED if report.crashed else DONE


def show(report: Report, source: str) -> None:
    """Print the report on `source`: first the checks that crashed, since without them it is not complete."""
    from rich.console import Console
    from rich.text import Text

    console = Console(file=stdout(), highlight=False)
    if report.crashed:
        console.print(Text(report.crash_count, style="bold red"))
        for error, checks in report.crashes.items():
            console.print(Text(f"  {', '.join(checks)}: {printable(error)}"), soft_wrap=True)
        console.print()
    for number, finding in enumerate(report.findings, 1):
        _show_finding(console, number, finding)
    n_passed = len(report.passed)
    if report.healthy:
        console.print(Text(f"{printable(source)}: no problems found ({n_passed} checks passed)", style="bold green"))
    if report.passed:
        console.print(Text(f"{n_passed} passed: {', '.join(report.passed)}", style="dim"))
    for reason in dict.fromkeys(unchecked.reason for unchecked in report.not_judged):
        names = ", ".join(unchecked.check for unchecked in report.not_judged if unchecked.reason == reason)
        console.print(Text(f"not judged: {names}: {printable(reason)}", style="dim"))


def _show_finding(console: "Console", number: int, finding: Finding) -> None:
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    console.print(Text.assemble((f"{number}. {printable(finding.title)}", "bold red"), (f"  [{finding.code}]", "dim")))
    grid = Table.grid(padding=(0, 1), pad_edge=True)
    grid.add_column(style="bold", width=9)
    grid.add_column(ratio=1)
    for name in ("evidence", "why", "fix"):
        grid.add_row(name, Text(printable(getattr(finding, name))))
    console.print(Padding(grid, (0, 0, 0, 2)))
    for line in finding.drawing:
        console.print(Text(f"      {printable(line)}"), soft_wrap=True)
    console.print()


def self_test(seed: int, *, as_json: bool) -> int:
    """Diagnose every fault in every design; return the exit code. JSON: one line for each case, the summary last."""
    from tui_lab.core.doctor.selftest.matrix import summary, trials
    from tui_lab.util.strict_json import dumps

    rows = []
    for trial in trials(seed):
        row = trial.run()
        rows.append(row)
        if as_json:
            stdout().write(dumps({"event": "case", **row.to_json()}) + "\n")
        elif not row.right:
            findings = ", ".join(row.findings) or "none"
            stdout().write(f"{row.design}, {row.fault or 'healthy'}, seed {row.seed}: findings: {findings}\n")
        stdout().flush()
    figures = summary(rows)
    if as_json:
        stdout().write(dumps({"event": "summary", **figures}) + "\n")
    else:
        stdout().write(
            f"{figures['named_first']} of {figures['faulty']} faulty cases named first, "
            f"{figures['false_alarms']} false alarms in {figures['healthy']} healthy ones, {figures['seconds']} s\n"
        )
        if figures["not_available"]:
            stdout().write(f"not installed, so not diagnosed: {', '.join(figures['not_available'])}\n")
    return NOT_MET if figures["misses"] else DONE

"""What the doctor has examined and what it has not, as a table."""

from collections.abc import Iterable

from rich.table import Table
from rich.text import Text

from tui_lab.core.doctor.findings import Report, Unchecked, by_reason, reason_lines
from tui_lab.util.escape import printable


def coverage_table(report: Report) -> Table:
    """Return rows: what was recognized, the checks that passed, and by reason what was not examined."""
    table = _new_table()
    recognized = [what for what in report.examined if what not in report.passed]
    _add(table, "examined", [Text(printable("; ".join(recognized)))] if recognized else [])
    passed = printable(", ".join(report.passed))
    _add(table, f"{len(report.passed)} passed", [Text(passed)] if passed else [])
    _add(table, "not written", [Text(printable(", ".join(report.not_written)))] if report.not_written else [])
    _add(table, "not examined", _not_examined(report, report.not_judged))
    return table


def unexamined_table(report: Report) -> Table:
    """Return the rows of what was not examined, without the checks that only wait for a fix."""
    table = _new_table()
    _add(table, "not examined", _not_examined(report, [check for check in report.not_judged if not check.waits_for]))
    return table


def _new_table() -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="dim bold", no_wrap=True)
    table.add_column(style="dim", ratio=1)
    return table


def _not_examined(report: Report, checks: Iterable[Unchecked]) -> list[Text]:
    """Return what is not about single checks, then a line for each reason, after the checks that it is about."""
    of_checks = set(reason_lines(report.not_judged))
    lines = [Text(printable(what)) for what in report.not_examined if what not in of_checks]
    for reason, names in by_reason(checks).items():
        lines.append(Text.assemble((printable(", ".join(names)), "bold"), f": {printable(reason)}"))
    return lines


def _add(table: Table, label: str, lines: Iterable[Text]) -> None:
    """Add rows, of which the first has the label."""
    for number, line in enumerate(lines):
        table.add_row("" if number else label, line)

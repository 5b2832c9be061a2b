"""`tui-lab doctor`: print the doctor's report, or run its self-test."""

from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING, TypeVar

from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from tui_lab.cli.output import console, stdout, write_json
from tui_lab.core.doctor.catalog import CATALOG, Entry
from tui_lab.core.doctor.findings import NOT_RUN, Finding, Report
from tui_lab.runs.coverage_table import coverage_table
from tui_lab.util.errors import ConfigError, nearest
from tui_lab.util.escape import printable
from tui_lab.util.exit_codes import DONE, NOT_JUDGED, NOT_MET
from tui_lab.util.plural import counted

if TYPE_CHECKING:
    from rich.console import Console


def exit_code(report: Report) -> int:
    """Return the exit code that the report stands for."""
    if report.findings:
        return NOT_MET
    return NOT_JUDGED if report.crashed or report.interrupted else DONE


Name = TypeVar("Name", bound=str)
EXPLAIN_ALL = "list"
"""What `--explain` takes in place of one name."""


def explain(name: str, *, as_json: bool) -> None:
    """Print what a finding's code or a check means; with EXPLAIN_ALL, all. Raises ConfigError for an unknown name."""
    from tui_lab.core.doctor.checks.registry import CHECKS
    from tui_lab.core.doctor.plugin_checks import with_plugins

    questions = {check.name: check.question for check in with_plugins(CHECKS)}
    code = None if name in questions else _same_name(name, CATALOG)  # Some names differ only in that.
    check = _same_name(name, questions)
    if code is not None:
        _explain_code(CATALOG[code], as_json=as_json)
    elif name == EXPLAIN_ALL:
        _explain_all(questions, as_json=as_json)
    elif check is not None:
        _explain_check(check, questions[check], as_json=as_json)
    else:
        raise ConfigError.of(
            "unknown_name",
            f"no finding has this code, and no check this name; --explain {EXPLAIN_ALL} shows all",
            key="--explain",
            value=name,
            suggestion=nearest(name, [*CATALOG, *questions]),
        )


def _same_name(name: str, known: Iterable[Name]) -> Name | None:
    """Return the known name that differs only in upper case, or in "_" or "-" for a space."""
    return next((other for other in known if _plain(other) == _plain(name)), None)


def _plain(name: str) -> str:
    return " ".join(name.replace("_", " ").replace("-", " ").lower().split())


def _explain_all(questions: dict[str, str], *, as_json: bool) -> None:
    """Print the codes of all findings, and all checks."""
    meanings = {code: entry.meaning for code, entry in CATALOG.items()}
    if as_json:
        write_json({"codes": meanings, "checks": questions})
        return
    out = console()
    for title, texts in (("codes of findings", meanings), ("checks", questions)):
        grid = Table.grid(padding=(0, 2))
        grid.add_column(style="bold", no_wrap=True)
        grid.add_column(ratio=1)
        for name, text in texts.items():
            grid.add_row(name, Text(text))
        out.print(Text(title, style="bold underline"))
        out.print(Padding(grid, (0, 0, 1, 0)))


def _explain_check(name: str, question: str, *, as_json: bool) -> None:
    if as_json:
        write_json({"check": name, "question": question})
    else:
        console().print(Text.assemble((name, "bold"), f": {question}"))


def _explain_code(entry: Entry, *, as_json: bool) -> None:
    if as_json:
        write_json(asdict(entry))
        return
    rows = [("looks like", entry.symptom), ("test", entry.test), ("fix", entry.fix)]
    _show_rows(console(), Text.assemble((entry.meaning, "bold"), (f"  [{entry.code}]", "dim")), rows)


def show(report: Report, source: str) -> None:
    """Print the report on `source`: first the checks that crashed, since without them it is not complete."""
    out = console()
    if report.interrupted:
        n_run = len(report.seconds)
        n_checks = n_run + len([check for check in report.not_judged if check.reason == NOT_RUN])
        text = f"{printable(source)}: {report.interrupted}: {n_run} of {n_checks} checks were run"
        out.print(Text(text, style="bold red"))
    if report.crashed:
        out.print(Text(report.crash_count, style="bold red"))
        for error, checks in report.crashes.items():
            out.print(Text(f"  {', '.join(checks)}: {printable(error)}"), soft_wrap=True)
        if any(crash.traceback for crash in report.crashed):
            out.print(Text("  --json has the traceback, for a report of the bug", style="dim"))
        out.print()
    for number, finding in enumerate(report.findings, 1):
        _show_finding(out, f"{number}. ", "bold red", finding)
    for hint in report.hints:
        _show_finding(out, "hint: ", "bold yellow", hint)
    _show_verdict(out, report, source)


def _show_verdict(out: "Console", report: Report, source: str) -> None:
    """Print the verdict, and what was examined and what was not."""
    if report.healthy:
        n = len(report.hints)
        verdict = f"no findings, {counted(n, 'hint')}" if n else "no problems found"
        if report.without_updates:
            verdict += f" in its parts; its loop was not examined: {report.without_updates}"
        elif report.updates is not None:
            verdict += f" in {counted(report.updates, 'update')}"
        if n_unjudged := len(report.not_judged):
            verdict += f"; {counted(n_unjudged, 'check')} not judged"
        style = "bold yellow" if report.without_updates else "bold green"
        out.print(Text(f"{printable(source)}: {verdict}", style=style))
    out.print(coverage_table(report))


def _show_finding(out: "Console", prefix: str, style: str, finding: Finding) -> None:
    title = Text(f"{prefix}{printable(finding.title)}", style)
    code = f"[{finding.code}]" + (f"  {printable(finding.location)}" if finding.location else "")
    rows = [(name, printable(getattr(finding, name))) for name in ("evidence", "why", "fix")]
    if title.cell_len + 2 + len(code) <= out.width:
        title.append(f"  {code}", "dim")
    else:  # It would stand alone on the next line.
        rows.insert(0, ("code", code))
    _show_rows(out, title, rows)
    for line in finding.drawing:
        out.print(Text(f"      {printable(line)}"), soft_wrap=True)
    out.print()


def _show_rows(out: "Console", title: Text, rows: list[tuple[str, str]]) -> None:
    out.print(title)
    grid = Table.grid(padding=(0, 1), pad_edge=True)
    grid.add_column(style="bold", min_width=9, no_wrap=True)
    grid.add_column(ratio=1)
    for name, text in rows:
        grid.add_row(name, Text(text))
    out.print(Padding(grid, (0, 0, 0, 2)))


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

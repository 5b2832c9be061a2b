"""What the record of a run says to the doctor: the step whose loss or gradient was not finite."""

from dataclasses import replace

from tui_lab.core import events as ev
from tui_lab.core.doctor.catalog import CATALOG
from tui_lab.core.doctor.findings import Finding, FindingCode, Report
from tui_lab.core.runs.before_nonfinite import read_before
from tui_lab.core.runs.folder import Run
from tui_lab.runs.listing import last_non_finite
from tui_lab.runs.nonfinite_text import before_lines, origin_lines

EXAMINED = "the record of the run"


def recorded_finding(run: Run) -> Finding | None:
    """Return the finding about the step of a run that was not finite; None if there was none. Raises RunError."""
    event = last_non_finite(run.downsampled().events())
    return None if event is None else _finding(run, event)


def _finding(run: Run, event: ev.NonFinite) -> Finding:
    quantity = event.origin.quantity
    code: FindingCode = "loss_not_finite" if quantity == "loss" else "gradient_not_finite"
    lines = [*origin_lines(event.origin), *before_lines(read_before(run, event))]
    return Finding(
        code=code,
        title=f"The {quantity} of step {event.failed_step:,} was not finite.",
        evidence="; ".join(line.strip() for line in lines),
        why="With such a step every weight would become NaN.",
        fix=CATALOG[code].fix,
    )


def with_recorded(report: Report, finding: Finding) -> Report:
    """Return the report with a finding of the record before its own."""
    others = tuple(each for each in report.findings if each.code != finding.code)
    return replace(report, findings=(finding, *others), examined=(EXAMINED, *report.examined))

"""What the monitors found during a run, and until when it held."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tui_lab.core import events as ev
from tui_lab.core.doctor.findings import Finding
from tui_lab.core.doctor.monitors import Monitors


@dataclass(frozen=True)
class Noticed:
    """A finding of the monitors at a step. until: the step at which it no longer held; None while it holds."""

    finding: Finding
    step: int
    until: int | None = None


def noticed_after(event: ev.Event, noticed: Sequence[Noticed], monitors: Monitors) -> list[Noticed]:
    """Return what is noticed after an event; an earlier finding is past if it no longer holds, or is found again.

    One that was wrong is left out.
    """
    new = monitors.update(event)
    holding = monitors.active - {finding.code for finding in new}
    earlier = [
        one if one.until is not None or one.finding.code in holding else replace(one, until=event.step)
        for one in noticed
        if one.until is not None or one.finding.code not in monitors.refuted
    ]
    return [*earlier, *(Noticed(finding, event.step) for finding in new)]

"""Does each position see itself and earlier positions of its own row, and nothing else? If not, why?

One token at a time is exchanged, in evaluation mode, and in training mode where that computes something else. The cause
is then looked for in the record of a forward pass: attention weights above the diagonal, reshapes that mix positions,
norms and means over the wrong axis. Cost: a forward pass for each position, at most 16, and as many in training mode.
"""

from collections.abc import Iterator

from tui_lab.core.doctor.checks.model.causal_leak import leak_findings
from tui_lab.core.doctor.checks.model.measured_mode import measured_modes
from tui_lab.core.doctor.checks.model.mixed_rows import mixed_rows_finding
from tui_lab.core.doctor.checks.model.past_context import ignores_input, input_ignored, past_findings, sees_past
from tui_lab.core.doctor.findings import Finding, NotApplicable
from tui_lab.core.doctor.measures.dependence import warmed_up
from tui_lab.core.doctor.program.target import Target


def check(target: Target) -> Iterator[Finding]:
    x = target.probe.x
    if x.shape[1] < 2:
        raise NotApplicable("rows have only one token")
    with target.evaluating():
        inert = ignores_input(target) or not sees_past(target)
    if inert:
        # Weights may start at zero on purpose; after some updates they show what they see.
        target = warmed_up(target)
    with target.evaluating():
        if ignores_input(target):
            yield input_ignored()
            return
    modes = measured_modes(target)
    mixing = [measured for measured in modes if measured.result.mixes_rows]
    if mixing:
        yield mixed_rows_finding(mixing[0])
        if not any(measured.result.future.any() for measured in modes):
            return
    if not target.causal:
        return
    leaking = [measured for measured in modes if bool(measured.result.future.any())]
    if leaking:
        yield from leak_findings(leaking[0], mixing)
        return
    yield from past_findings(modes[0])

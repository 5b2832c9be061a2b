"""Runs the checks, except those that mean nothing once a cause is known."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from tui_lab.core.doctor.catalog import CATALOG
from tui_lab.core.doctor.checks.registry import CHECKS, Check
from tui_lab.core.doctor.findings import (
    NOT_RUN,
    CallFailed,
    Crashed,
    Finding,
    FindingCode,
    NotApplicable,
    NotJudged,
    Report,
    Unchecked,
    crashed,
    reason_lines,
)
from tui_lab.core.doctor.locations import located
from tui_lab.core.doctor.model_call import was_raised_in_call
from tui_lab.core.doctor.plugin_checks import with_plugins
from tui_lab.core.doctor.program.fixed_shape import of_accepted_shape
from tui_lab.core.doctor.program.target import Target
from tui_lab.core.doctor.program.unchanged import unchanged_program
from tui_lab.util.errors import ConfigError

NOT_COMPARABLE: tuple[FindingCode, ...] = ("nondeterministic", "weights_change_in_forward")
UNTRAINABLE_DATA: tuple[FindingCode, ...] = ("ignored_targets",)
"""Findings about the data after which nothing can be learned."""
NO_TIME = "the time limit was near; --timeout SECONDS sets it"
OnResult = Callable[[Report], None]
"""Gets the report so far after each check, in which the other checks are not judged."""


def examine(
    target: Target,
    *,
    on_check: Callable[[str], None] = lambda name: None,
    on_result: OnResult | None = None,
    deadline: float = math.inf,
) -> Report:
    """Run every check; `on_check` receives each one's name before it runs.

    deadline: of time.monotonic(); checks that would begin later are not judged.

    The model, the optimizers, what the update keeps between calls, and torch's generator are left unchanged. A check
    that raises is reported as crashed, except for a ConfigError (such as a batch of the wrong shape), which is raised.
    """
    with unchanged_program(target) as update_state:
        return _examine(of_accepted_shape(replace(target, update_state=update_state)), on_check, on_result, deadline)


def _examine(target: Target, on_check: Callable[[str], None], on_result: OnResult | None, deadline: float) -> Report:
    results = _Results()
    checks = with_plugins(CHECKS)
    for number, check in enumerate(checks):
        if on_result is not None:
            on_result(results.report(target, [later.name for later in checks[number:]]))
        if cause := results.cause_against(check):
            results.not_judged.append(_waiting(check.name, cause))
            continue
        if time.monotonic() > deadline:
            results.not_judged.append(Unchecked(check.name, NO_TIME))
            continue
        on_check(check.name)
        began = time.perf_counter()
        results.run(check, target)
        results.seconds[check.name] = time.perf_counter() - began
    return results.report(target)


def _waiting(check: str, cause: str) -> Unchecked:
    return Unchecked(check, f"skipped because of {cause}; fix it and run the doctor again", waits_for=cause)


def _is_trainable_data(code: FindingCode) -> bool:
    return CATALOG[code].section == "data" and code not in UNTRAINABLE_DATA


class _Results:
    """Collects what became of each check."""

    def __init__(self) -> None:
        self.findings: list[Finding] = []
        self.hints: list[Finding] = []
        self.passed: list[str] = []
        self.not_judged: list[Unchecked] = []
        self.not_applicable: list[Unchecked] = []
        self.crashed: list[Crashed] = []
        self.seconds: dict[str, float] = {}
        self.blocking = ""
        """The code of a finding after which no further check runs."""
        self.failed_call = ""
        """Why the model cannot be called, where that is not a fault of the program."""

    def cause_against(self, check: Check) -> str:
        """Return the code of a finding or hint after which the check would mean nothing, or ""."""
        if self.blocking:
            return self.blocking
        for finding in (*self.findings, *self.hints):
            if check.needs_graph and finding.code == "detached_loss":
                return finding.code
            if check.compares and finding.code in NOT_COMPARABLE:
                return finding.code
            if check.trains and finding.kind == "finding" and not _is_trainable_data(finding.code):
                return finding.code
        return ""

    def run(self, check: Check, target: Target) -> None:
        """Run one check. A ConfigError, such as for a batch of the wrong shape, is raised."""
        n_before = len(self.findings)
        named = {finding.code for finding in self.findings}
        hinted = {hint.code for hint in self.hints}
        try:
            # One by one, so that a finding is kept if the check crashes after it.
            for finding in check.run(target):
                is_known = finding.code in named or (finding.kind == "hint" and finding.code in hinted)
                if is_known:  # An earlier check has named it by other means.
                    continue
                (self.findings if finding.kind == "finding" else self.hints).append(located(finding, target))
                if finding.code in check.blocks:
                    self.blocking = finding.code
            if len(self.findings) == n_before:
                self.passed.append(check.name)
        except NotJudged as unknown:
            if isinstance(unknown, CallFailed):
                self.failed_call = str(unknown)
            self.not_judged.append(Unchecked(check.name, str(unknown)))
        except NotApplicable as absent:
            self.not_applicable.append(Unchecked(check.name, str(absent)))
        except ConfigError:
            raise
        except Exception as error:
            if self.failed_call and was_raised_in_call(error):
                self.not_judged.append(Unchecked(check.name, self.failed_call))
            else:
                self.crashed.append(crashed(check.name, error))

    def report(self, target: Target, not_run: Sequence[str] = ()) -> Report:
        """Return the report on `target`, without findings that are only consequences of others.

        not_run: the checks that have not been run yet.
        """
        self._name_shown_causes()
        not_judged = (*self.not_judged, *(Unchecked(name, NOT_RUN) for name in not_run))
        codes = {finding.code for finding in self.findings}
        consequences = {code for finding in self.findings for code in finding.explains}
        return Report(
            findings=tuple(finding for finding in self.findings if finding.code not in consequences),
            hints=tuple(hint for hint in self.hints if hint.code not in consequences | codes),
            passed=tuple(self.passed),
            not_judged=not_judged,
            not_applicable=tuple(self.not_applicable),
            crashed=tuple(self.crashed),
            examined=(*target.recognized, *self.passed),
            not_examined=(*target.unseen, *reason_lines(not_judged)),
            seconds=self.seconds,
        )

    def _name_shown_causes(self) -> None:
        """Let checks that wait for a consequence of another finding wait for that finding: only it is reported."""
        causes = {code: finding.code for finding in reversed(self.findings) for code in finding.explains}
        for i, unchecked in enumerate(self.not_judged):
            if unchecked.waits_for in causes:
                self.not_judged[i] = _waiting(unchecked.check, causes[unchecked.waits_for])

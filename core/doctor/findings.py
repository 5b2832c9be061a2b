"""What the doctor reports: findings, the checks that crashed, and what it could not look at."""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Severity = Literal["error", "warning"]


@dataclass(frozen=True)
class Finding:
    """One cause, named. code: stable, for tests and scripts; drawing: lines that show the evidence.

    proposal: settings (dotted keys) that would mend it; explains: codes of findings that are but its consequences.
    """

    code: str
    verdict: str
    evidence: str
    why: str
    fix: str
    severity: Severity = "error"
    drawing: tuple[str, ...] = ()
    proposal: dict[str, Any] = field(default_factory=dict)
    explains: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class Skip(Exception):
    """Raised by a check that cannot know; the message says why."""


@dataclass(frozen=True)
class Skipped:
    check: str
    reason: str


@dataclass(frozen=True)
class Crashed:
    """A check that ended with an exception, so what it looks for is unknown. error: the exception's type."""

    check: str
    error: str
    message: str


@dataclass(frozen=True)
class Report:
    """findings: the most fundamental cause first. seconds: by check."""

    findings: tuple[Finding, ...]
    skipped: tuple[Skipped, ...]
    passed: tuple[str, ...]
    seconds: dict[str, float]
    crashed: tuple[Crashed, ...] = ()

    @property
    def healthy(self) -> bool:
        """Whether nothing was found and no check crashed."""
        return not self.findings and not self.crashed

    @property
    def crashes(self) -> dict[str, list[str]]:
        """Each error that ended a check, as "type: message", with the names of the checks that it ended."""
        checks: dict[str, list[str]] = {}
        for crash in self.crashed:
            checks.setdefault(f"{crash.error}: {crash.message}", []).append(crash.check)
        return checks

    @property
    def crash_count(self) -> str:
        """ "1 check crashed", "2 checks crashed"."""
        n = len(self.crashed)
        return f"{n} check{'' if n == 1 else 's'} crashed"

    def to_json(self) -> dict[str, Any]:
        return {
            "healthy": self.healthy,
            "findings": [finding.to_json() for finding in self.findings],
            "crashed": [asdict(crashed) for crashed in self.crashed],
            "skipped": [asdict(skipped) for skipped in self.skipped],
            "passed": list(self.passed),
            "seconds": {name: round(seconds, 4) for name, seconds in self.seconds.items()},
        }


def report_from_json(record: dict[str, Any]) -> Report:
    """Undo `Report.to_json`."""
    return Report(
        tuple(_finding(finding) for finding in record["findings"]),
        tuple(Skipped(**skipped) for skipped in record["skipped"]),
        tuple(record["passed"]),
        dict(record["seconds"]),
        tuple(Crashed(**crashed) for crashed in record["crashed"]),
    )


def _finding(record: dict[str, Any]) -> Finding:
    values: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in record.items()}
    return Finding(**values)

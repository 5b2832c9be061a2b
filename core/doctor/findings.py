"""The doctor's report: findings, checks that crashed, and checks that were skipped."""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Severity = Literal["error", "warning"]

FindingCode = Literal[
    # Data
    "wrong_vocab", "shuffle_every_step", "constant_batch", "shifted_targets", "copied_targets", "swapped_rows",
    "unmasked_targets", "ignored_targets", "leaked_validation",
    # Model
    "forward_fails", "output_shape", "not_finite", "nondeterministic", "dropout_in_eval", "attention_rows",
    "score_scale", "causal_leak", "no_context", "batch_mixing", "input_ignored", "initial_loss", "dead_relus",
    "frozen_parameters", "unregistered_parameters", "no_positions", "missing_gradient", "gradient_flow", "tied_head",
    # Loss
    "double_softmax", "double_shift", "missing_log_softmax", "scrambled_logits", "gradient_ascent", "summed_loss",
    "wrong_divisor", "activated_logits",
    # Training
    "stale_optimizer", "missing_from_optimizer", "update_ignores_model", "no_backward", "no_step",
    "cleared_before_step", "gradient_clipped", "no_zero_grad", "eval_in_training", "dropout_too_high",
    "weight_decay_too_high", "lr_too_high", "lr_too_low", "cannot_overfit",
    # Monitors
    "diverging", "dying_relus", "data_starvation", "nothing_learned", "overfitting",
]  # fmt: skip
"""Stable, for tests and scripts."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A named cause with its evidence.

    title: one sentence. evidence: what was measured. why: why it matters. fix: what to do.
    drawing: lines that show the evidence.
    proposal: settings (dotted keys) that would fix it.
    explains: codes of findings that are only consequences of this one.
    reference_loss: a loss to mark in the chart, such as the lowest one that the fault allows.
    """

    code: FindingCode
    title: str
    evidence: str
    why: str
    fix: str
    severity: Severity = "error"
    drawing: tuple[str, ...] = ()
    proposal: dict[str, Any] = field(default_factory=dict)
    explains: tuple[FindingCode, ...] = ()
    reference_loss: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the fields; `report_from_json` reverses it."""
        return asdict(self)


class Skip(Exception):
    """Raised by a check that lacks information; the message is the reason."""


@dataclass(frozen=True)
class Skipped:
    """A check that did not run, and the reason."""

    check: str
    reason: str


@dataclass(frozen=True)
class Crashed:
    """A check that raised an exception, so its result is unknown. error: the exception's type."""

    check: str
    error: str
    message: str


@dataclass(frozen=True)
class Report:
    """findings: the most fundamental cause first. seconds: the time that each check took."""

    findings: tuple[Finding, ...]
    skipped: tuple[Skipped, ...]
    passed: tuple[str, ...]
    seconds: dict[str, float]
    crashed: tuple[Crashed, ...] = ()

    @property
    def healthy(self) -> bool:
        """Whether there is no finding and no check crashed."""
        return not self.findings and not self.crashed

    @property
    def crashes(self) -> dict[str, list[str]]:
        """The names of the crashed checks by their error, "type: message"."""
        checks: dict[str, list[str]] = {}
        for crash in self.crashed:
            checks.setdefault(f"{crash.error}: {crash.message}", []).append(crash.check)
        return checks

    @property
    def crash_count(self) -> str:
        """The number of crashed checks in words: "1 check crashed", "2 checks crashed"."""
        n = len(self.crashed)
        return f"{n} check{'' if n == 1 else 's'} crashed"

    @property
    def reference_loss(self) -> float | None:
        """The first finding's reference loss, or None."""
        return next((f.reference_loss for f in self.findings if f.reference_loss is not None), None)

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON values; `report_from_json` reverses it."""
        return {
            "healthy": self.healthy,
            "findings": [finding.to_json() for finding in self.findings],
            "crashed": [asdict(crashed) for crashed in self.crashed],
            "skipped": [asdict(skipped) for skipped in self.skipped],
            "passed": list(self.passed),
            "seconds": {name: round(seconds, 4) for name, seconds in self.seconds.items()},
        }


def report_from_json(record: dict[str, Any]) -> Report:
    """Return the report that `Report.to_json` wrote."""
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

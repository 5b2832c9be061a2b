"""The doctor's report: findings, hints, and what became of each check."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from traceback import format_exception
from typing import Any, Literal

from tui_lab.util.plural import counted

Kind = Literal["finding", "hint"]
"""A finding is shown by a test that a healthy program passes; a hint is only a suspicion."""

FindingCode = Literal[
    # Data
    "wrong_vocab", "shuffle_every_step", "constant_batch", "shifted_targets", "copied_targets", "swapped_rows",
    "unmasked_targets", "ignored_targets", "leaked_validation", "padding_trained", "end_never_target",
    "data_changed", "prompt_trained", "missing_labels", "not_shuffled",
    # Model
    "forward_fails", "output_shape", "not_finite", "nondeterministic", "dropout_in_eval", "random_in_eval",
    "attention_rows",
    "mask_after_softmax", "score_scale", "attention_saturated", "causal_leak", "heads_mixed", "norm_axis",
    "no_context", "batch_mixing", "input_ignored", "initial_loss", "dead_relus", "frozen_parameters",
    "unregistered_parameters", "no_positions", "missing_gradient", "gradient_flow", "tied_head", "no_residual",
    "padding_attended", "prefix_differs", "mode_difference", "cache_differs", "device_difference",
    "weights_change_in_forward",
    # Loss
    "double_softmax", "double_shift", "missing_log_softmax", "scrambled_logits", "gradient_ascent", "summed_loss",
    "wrong_divisor", "activated_logits", "output_broadcast", "double_sigmoid", "detached_loss",
    "missing_sigmoid", "softmax_of_one", "exclusive_labels",
    # Training
    "stale_optimizer", "missing_from_optimizer", "update_ignores_model", "no_backward", "no_step",
    "cleared_before_step", "gradient_clipped", "no_zero_grad", "eval_in_training", "dropout_too_high",
    "weight_decay_too_high", "lr_too_high", "lr_too_low", "cannot_overfit", "other_loss",
    # The loop
    "cleared_between_backwards", "clip_before_unscale", "loss_scale_kept", "clip_without_effect",
    "accumulation_not_divided", "gradient_not_finite", "weights_never_move", "train_mode_in_evaluation", "lr_zero",
    "lr_schedule", "schedule_before_step", "decayed_norms", "updates_lost", "stale_buffers", "state_carried",
    "average_of_itself", "loss_not_finite", "loss_not_falling", "loss_unbounded", "optimizer_rebuilt",
    "trained_reference", "loss_not_scaled", "scaler_rebuilt",
    # Monitors
    "diverging", "dying_relus", "data_starvation", "nothing_learned", "overfitting",
]  # fmt: skip
"""Stable, for tests and scripts."""

NOT_RUN = "not run: the examination ended before"
"""Why a check has no result where the examination was interrupted."""
SO_FAR = "so_far"
"""The key of the line that an examining process writes after each check, with the report so far."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A named cause with its evidence.

    title: one sentence. evidence: what was measured. why: why it matters. fix: what to do.
    location: the line of the user's code, "train.py:42"; empty if it is unknown.
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
    kind: Kind = "finding"
    location: str = ""
    drawing: tuple[str, ...] = ()
    proposal: dict[str, Any] = field(default_factory=dict)
    explains: tuple[FindingCode, ...] = ()
    reference_loss: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the fields; `report_from_json` reverses it."""
        return asdict(self)


class NotJudged(Exception):
    """Raised by a check that lacks information which the user could give; the message is the reason."""


class CallFailed(NotJudged):
    """Raised where our own call of a model fails that runs in its program; no later check can call it either."""


class NotApplicable(Exception):
    """Raised by a check whose subject this program does not have; the message is the reason."""


@dataclass(frozen=True)
class Unchecked:
    """A check that was not run to its end, and the reason. waits_for: the code of the finding to be fixed first."""

    check: str
    reason: str
    waits_for: str = ""


def by_reason(checks: Iterable[Unchecked]) -> dict[str, list[str]]:
    """Return the names of the checks by their reason."""
    names: dict[str, list[str]] = {}
    for unchecked in checks:
        names.setdefault(unchecked.reason, []).append(unchecked.check)
    return names


def reason_lines(checks: Iterable[Unchecked]) -> list[str]:
    """Return a line for each reason, after the names of its checks."""
    return [f"{', '.join(names)} ({reason})" for reason, names in by_reason(checks).items()]


@dataclass(frozen=True)
class Crashed:
    """A check that raised an exception, so its result is unknown. error: the exception's type."""

    check: str
    error: str
    message: str
    traceback: str = field(default="", compare=False)
    """As Python prints it, for a report of the bug."""


def crashed(check: str, error: Exception) -> Crashed:
    """Return what became of a check that has raised `error`."""
    return Crashed(check, type(error).__name__, str(error), "".join(format_exception(error)))


@dataclass(frozen=True, kw_only=True)
class Report:
    """What became of each check.

    findings, hints: the most fundamental cause first. seconds: the time that each check took.
    examined: what of the program was examined, in words. not_examined: what was not, each with a way to change that.
    not_written: names of the files that the script would have written. without_updates: why no update of a script was
    recorded, so that only its parts were examined; empty if some were. updates: how many of a script were examined;
    None for anything else. interrupted: why the examination ended before all checks were run; empty if it did not.
    """

    findings: tuple[Finding, ...] = ()
    hints: tuple[Finding, ...] = ()
    passed: tuple[str, ...] = ()
    not_judged: tuple[Unchecked, ...] = ()
    not_applicable: tuple[Unchecked, ...] = ()
    crashed: tuple[Crashed, ...] = ()
    examined: tuple[str, ...] = ()
    not_examined: tuple[str, ...] = ()
    not_written: tuple[str, ...] = ()
    without_updates: str = ""
    updates: int | None = None
    interrupted: str = ""
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def healthy(self) -> bool:
        """Whether there is no finding, no check crashed, and the examination was not interrupted."""
        return not (self.findings or self.crashed or self.interrupted)

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
        return f"{counted(n, 'check')} crashed"

    @property
    def reference_loss(self) -> float | None:
        """The first finding's reference loss, or None."""
        return next((f.reference_loss for f in self.findings if f.reference_loss is not None), None)

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON values; `report_from_json` reverses it."""
        return {
            "healthy": self.healthy,
            "findings": [finding.to_json() for finding in self.findings],
            "hints": [hint.to_json() for hint in self.hints],
            "crashed": [asdict(crash) for crash in self.crashed],
            "not_judged": [asdict(unchecked) for unchecked in self.not_judged],
            "not_applicable": [asdict(unchecked) for unchecked in self.not_applicable],
            "passed": list(self.passed),
            "examined": list(self.examined),
            "not_examined": list(self.not_examined),
            "not_written": list(self.not_written),
            "without_updates": self.without_updates,
            "updates": self.updates,
            "interrupted": self.interrupted,
            "seconds": {name: round(seconds, 4) for name, seconds in self.seconds.items()},
        }


def report_from_json(record: dict[str, Any]) -> Report:
    """Return the report that `Report.to_json` wrote."""
    return Report(
        findings=tuple(_finding(finding) for finding in record["findings"]),
        hints=tuple(_finding(hint) for hint in record["hints"]),
        passed=tuple(record["passed"]),
        not_judged=tuple(Unchecked(**unchecked) for unchecked in record["not_judged"]),
        not_applicable=tuple(Unchecked(**unchecked) for unchecked in record["not_applicable"]),
        crashed=tuple(Crashed(**crash) for crash in record["crashed"]),
        examined=tuple(record["examined"]),
        not_examined=tuple(record["not_examined"]),
        not_written=tuple(record["not_written"]),
        without_updates=record.get("without_updates", ""),
        updates=record.get("updates"),
        interrupted=record.get("interrupted", ""),
        seconds=dict(record["seconds"]),
    )


def _finding(record: dict[str, Any]) -> Finding:
    values: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in record.items()}
    return Finding(**values)

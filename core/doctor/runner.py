"""Runs the checks: in which order, and which are skipped once a cause is known."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch

from tui_lab.core.doctor.catalog import CATALOG
from tui_lab.core.doctor.checks.data import (
    data_order,
    loop_rows,
    prompts,
    row_ends,
    stored_data,
    targets,
    token_ids,
    validation_leak,
)
from tui_lab.core.doctor.checks.loss import criterion_inputs, detached_loss, initial_loss, loss, trained_loss
from tui_lab.core.doctor.checks.model import (
    attention,
    cache,
    causality,
    dead_relus,
    determinism,
    devices,
    forward,
    modes,
    padded_rows,
    padding_effect,
    positions,
    prefix,
    residual,
    series,
)
from tui_lab.core.doctor.checks.training import (
    averaged_buffers,
    carried_state,
    gradient_flow,
    gradient_reset,
    gradients,
    loop_gradients,
    loop_modes,
    loop_rates,
    lost_updates,
    optimizer_parameters,
    optimizer_step,
    overfit,
)
from tui_lab.core.doctor.findings import (
    CallFailed,
    Crashed,
    Finding,
    FindingCode,
    NotApplicable,
    NotJudged,
    Report,
    Unchecked,
)
from tui_lab.core.doctor.program.batch import n_rows
from tui_lab.core.doctor.program.target import Target, trial_rows
from tui_lab.core.doctor.program.update_state import UpdateState
from tui_lab.core.watch.unchanged_rng import unchanged_rng
from tui_lab.util.errors import ConfigError


@dataclass(frozen=True)
class Check:
    """blocks: codes after which no further check runs, since it would only repeat them.

    trains: whether the check trains for many updates. It is not run after a finding, except one about the data: rows
    can be memorized whatever their targets and order are.
    compares: whether the check compares outputs, which means nothing if they differ by chance.
    needs_graph: whether the check asks for the gradient of the loss, also of that in the update.
    """

    name: str
    run: Callable[[Target], Iterator[Finding]]
    blocks: tuple[FindingCode, ...] = ()
    trains: bool = False
    compares: bool = False
    needs_graph: bool = False


FEWER_ROWS = 2
"""As few as any check takes."""
NOT_COMPARABLE: tuple[FindingCode, ...] = ("nondeterministic", "weights_change_in_forward")
UNTRAINABLE_DATA: tuple[FindingCode, ...] = ("wrong_vocab", "ignored_targets")
"""Findings about the data after which nothing can be learned."""


CHECKS = (
    Check("token ids", token_ids.check, ("wrong_vocab",)),
    Check("data order", data_order.check),
    Check("rows of the loop", loop_rows.check),
    Check("targets", targets.check),
    Check("row ends", row_ends.check),
    Check("prompts", prompts.check),
    Check("validation leak", validation_leak.check),
    Check("stored data", stored_data.check),
    Check("carried state", carried_state.check),
    Check("forward", forward.check, ("forward_fails", "output_shape", "not_finite")),
    Check("loss graph", detached_loss.check),
    Check("determinism", determinism.check),
    Check("loss", loss.check, needs_graph=True),
    Check("trained loss", trained_loss.check, needs_graph=True),
    Check("criterion inputs", criterion_inputs.check),
    Check("attention", attention.check),
    Check("padded rows", padded_rows.check),
    Check("causality", causality.check, compares=True),
    Check("series", series.check, compares=True),
    Check("positions", positions.check, compares=True),
    Check("residual paths", residual.check),
    Check("padding", padding_effect.check, compares=True),
    Check("prefix", prefix.check, compares=True),
    Check("modes", modes.check, compares=True),
    Check("cache", cache.check, compares=True),
    Check("devices", devices.check, compares=True),
    Check("initial loss", initial_loss.check),
    Check("dead ReLUs", dead_relus.check),
    Check("gradients", gradients.check),
    Check("optimizer parameters", optimizer_parameters.check),
    Check("optimizer step", optimizer_step.check, compares=True, needs_graph=True),
    Check("gradient reset", gradient_reset.check, compares=True),
    Check("loop gradients", loop_gradients.check),
    Check("training mode", loop_modes.check),
    Check("rates", loop_rates.check),
    Check("lost updates", lost_updates.check),
    Check("averaged buffers", averaged_buffers.check),
    Check("gradient flow", gradient_flow.check, needs_graph=True),
    Check("overfit", overfit.check, trains=True),
)
"""In the order in which findings are reported: faults of the data before those of the model and the training."""


NO_TIME = "the time limit was near; --timeout SECONDS sets it"


def examine(
    target: Target, *, on_check: Callable[[str], None] = lambda name: None, deadline: float = math.inf
) -> Report:
    """Run every check; `on_check` receives each one's name before it runs.

    deadline: of time.monotonic(); checks that would begin later are not judged.

    The model, the optimizers, what the update keeps between calls, and torch's generator are left unchanged. A check
    that raises is reported as crashed, except for a ConfigError (such as a batch of the wrong shape), which is raised.
    """
    # A scheduler of the update may set the rates of the optimizers that it was created with.
    keep_state = [target.update, *(optimizer.param_groups for optimizer in target.optimizers)]
    restored_elsewhere = (*target.model.modules(), *target.model.parameters(), *target.optimizers)
    update_state = UpdateState(keep_state, exclude=restored_elsewhere)
    with _restored(target):
        try:
            return _examine(_of_accepted_shape(replace(target, update_state=update_state)), on_check, deadline)
        finally:
            update_state.restore()


def _of_accepted_shape(target: Target) -> Target:
    """Return the target with `fixed_shape` if its model takes no batch of fewer rows than the program's.

    Such as a recurrent model whose state, [layers, B, H], is an argument.
    """
    try:
        whole = target.batch(0)
        fewer = trial_rows(whole, FEWER_ROWS, whole=target.fixed_shape or n_rows(whole) <= FEWER_ROWS)
    except Exception:  # The checks report it.
        return target
    if fewer is whole:
        return target
    with target.evaluating(), torch.no_grad():
        try:
            target.output(fewer)
        except (NotJudged, NotApplicable):
            return target
        except Exception:
            try:
                target.output(whole)
            except Exception:
                return target
            return replace(target, fixed_shape=True)
    return target


@contextmanager
def _restored(target: Target) -> Iterator[None]:
    """Restore at the end what a user's update may change although it is given copies."""
    training = {module for module in target.model.modules() if module.training}
    tensors = (*target.model.parameters(), *target.model.buffers())
    weights = [tensor.detach().clone() for tensor in tensors]
    states = [{p: dict(state) for p, state in optimizer.state.items()} for optimizer in target.optimizers]
    groups = [[dict(group) for group in optimizer.param_groups] for optimizer in target.optimizers]
    gradients = [p.grad for p in target.model.parameters()]
    try:
        with unchanged_rng():
            yield
    finally:
        with torch.no_grad():
            for tensor, weight in zip(tensors, weights, strict=True):
                if tensor.shape == weight.shape:
                    tensor.copy_(weight)
        for module in target.model.modules():
            module.training = module in training
        for p, gradient in zip(target.model.parameters(), gradients, strict=True):
            p.grad = gradient
        for optimizer, groups_before in zip(target.optimizers, groups, strict=True):
            for group, before in zip(optimizer.param_groups, groups_before, strict=True):
                group.update(before)
        for optimizer, state in zip(target.optimizers, states, strict=True):
            optimizer.state.clear()
            optimizer.state.update(state)


def _examine(target: Target, on_check: Callable[[str], None], deadline: float) -> Report:
    results = _Results()
    for check in CHECKS:
        if cause := results.cause_against(check):
            reason = f"not run because of {cause}; diagnose again once it is fixed"
            results.not_judged.append(Unchecked(check.name, reason))
            continue
        if time.monotonic() > deadline:
            results.not_judged.append(Unchecked(check.name, NO_TIME))
            continue
        on_check(check.name)
        began = time.perf_counter()
        results.run(check, target)
        results.seconds[check.name] = time.perf_counter() - began
    return results.report(target)


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
        """Why the model cannot be called, where that is no fault of the program."""

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
        try:
            # One by one, so that a finding is kept if the check crashes after it.
            for finding in check.run(target):
                if finding.code in named:  # An earlier check has named it by other means.
                    continue
                (self.findings if finding.kind == "finding" else self.hints).append(finding)
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
            if self.failed_call:
                self.not_judged.append(Unchecked(check.name, self.failed_call))
                return
            self.crashed.append(Crashed(check.name, type(error).__name__, str(error)))

    def report(self, target: Target) -> Report:
        """Return the report on `target`, without findings that are only consequences of others."""
        codes = {finding.code for finding in self.findings}
        consequences = {code for finding in self.findings for code in finding.explains}
        return Report(
            findings=tuple(finding for finding in self.findings if finding.code not in consequences),
            hints=tuple(hint for hint in self.hints if hint.code not in consequences | codes),
            passed=tuple(self.passed),
            not_judged=tuple(self.not_judged),
            not_applicable=tuple(self.not_applicable),
            crashed=tuple(self.crashed),
            examined=(*target.recognized, *self.passed),
            not_examined=(*target.unseen, *self._reasons()),
            seconds=self.seconds,
        )

    def _reasons(self) -> Iterator[str]:
        """Yield each reason why checks were not judged, after the names of these checks."""
        for reason in dict.fromkeys(unchecked.reason for unchecked in self.not_judged):
            names = [unchecked.check for unchecked in self.not_judged if unchecked.reason == reason]
            yield f"{', '.join(names)} ({reason})"

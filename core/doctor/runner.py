"""The examination: which checks, in which order, and what is left out once a cause is known."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from tui_lab.core.doctor.checks import (  # fmt: skip
    attention,
    causality,
    data_order,
    dead_relus,
    determinism,
    forward,
    gradient_flow,
    gradient_reset,
    gradients,
    initial_loss,
    loss,
    optimizer_parameters,
    optimizer_step,
    overfit,
    targets,
    token_ids,
    validation_leak,
)
from tui_lab.core.doctor.findings import Crashed, Finding, Report, Skip, Skipped
from tui_lab.core.doctor.target import Probe, Subject, probe
from tui_lab.util.errors import ConfigError


@dataclass(frozen=True)
class Check:
    """stage: a finding in `blocks` ends the examination after its stage, since what follows would only echo it."""

    name: str
    run: Callable[[Subject, Any], Iterator[Finding]]
    stage: str
    blocks: tuple[str, ...] = ()


DATA = (
    Check("ids", token_ids.check, "data", ("wrong_vocab",)),
    Check("drawing", data_order.check, "data"),
    Check("alignment", targets.check, "data"),
    Check("leakage", validation_leak.check, "data"),
)
MODEL = (
    Check("forward", forward.check, "model", ("forward_fails", "output_shape", "not_finite")),
    Check("determinism", determinism.check, "model", ("nondeterministic",)),
    Check("loss", loss.check, "model"),
    Check("attention", attention.check, "model"),
    Check("sight", causality.check, "model"),
    Check("initial loss", initial_loss.check, "model"),
    Check("relus", dead_relus.check, "model"),
    Check("gradients", gradients.check, "model"),
    Check("ownership", optimizer_parameters.check, "model"),
    Check("stepping", optimizer_step.check, "model"),
    Check("procedure", gradient_reset.check, "model"),
    Check("gradient flow", gradient_flow.check, "model"),
)
TRIAL = (Check("overfit", overfit.check, "trial"),)
CHECKS = (*DATA, *MODEL, *TRIAL)
"""In the order in which causes are told: what is wrong with the data comes before what is wrong with the model."""


def examine(subject: Subject, *, watch: Callable[[str], None] = lambda name: None) -> Report:
    """Run every check that can be run; `watch` is told each one's name before it begins.

    The model, the optimizers and torch's generator are left as they were. A check that raises is reported as crashed,
    except for a ConfigError (such as a batch of the wrong shape), which is raised.
    """
    with _kept(subject):
        return _examine(subject, watch)


@contextmanager
def _kept(subject: Subject) -> Iterator[None]:
    """What a person's own update function may reach past the copies that it is given: put back at the end."""
    generator, training = torch.get_rng_state(), subject.model.training
    weights = {name: tensor.detach().clone() for name, tensor in subject.model.state_dict().items()}
    states = [{p: dict(state) for p, state in optimizer.state.items()} for optimizer in subject.optimizers]
    groups = [[dict(group) for group in optimizer.param_groups] for optimizer in subject.optimizers]
    gradients = [p.grad for p in subject.model.parameters()]
    try:
        yield
    finally:
        with torch.no_grad():
            for name, tensor in subject.model.state_dict().items():
                tensor.copy_(weights[name])
        subject.model.train(training)
        for p, gradient in zip(subject.model.parameters(), gradients, strict=True):
            p.grad = gradient
        for optimizer, kept in zip(subject.optimizers, groups, strict=True):
            for group, before in zip(optimizer.param_groups, kept, strict=True):
                group.update(before)
        for optimizer, state in zip(subject.optimizers, states, strict=True):
            optimizer.state.clear()
            optimizer.state.update(state)
        torch.set_rng_state(generator)


def _examine(subject: Subject, watch: Callable[[str], None]) -> Report:
    findings: list[Finding] = []
    skipped: list[Skipped] = []
    crashed: list[Crashed] = []
    passed: list[str] = []
    seconds: dict[str, float] = {}
    small: Probe | None = None
    blocked = ""
    for check in CHECKS:
        errors = [finding for finding in findings if finding.severity == "error"]
        reason = blocked or (f"{errors[0].code} comes first" if check.stage == "trial" and errors else "")
        if reason:
            skipped.append(Skipped(check.name, f"not tried: {reason}; check again once it is mended"))
            continue
        watch(check.name)
        began = time.perf_counter()
        n_before = len(findings)
        try:
            if check.stage != "data" and small is None:
                small = probe(subject)
            # One by one: what a check finds before it crashes is kept.
            for finding in check.run(subject, small):
                findings.append(finding)
            if len(findings) == n_before:
                passed.append(check.name)
        except Skip as skip:
            skipped.append(Skipped(check.name, str(skip)))
        except ConfigError:
            raise
        except Exception as error:
            crashed.append(Crashed(check.name, type(error).__name__, str(error)))
        blocked = next((finding.code for finding in findings[n_before:] if finding.code in check.blocks), "")
        seconds[check.name] = time.perf_counter() - began
    explained = {code for finding in findings for code in finding.explains}
    kept = tuple(finding for finding in findings if finding.code not in explained)
    return Report(kept, tuple(skipped), tuple(passed), seconds, tuple(crashed))

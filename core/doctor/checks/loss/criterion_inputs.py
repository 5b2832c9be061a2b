"""Do the loss functions of torch get what they expect? Cost: none beyond the record of the loop.

The check of the loss finds the same mistakes in the gradient of the model's logits. This one sees every call, also of
losses that are not cross-entropies and of scores that the model does not return.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from tui_lab.core.doctor.checks.loss.loss_findings import (
    double_sigmoid,
    double_softmax,
    loss_finding,
    output_broadcast,
)
from tui_lab.core.doctor.findings import Finding, NotApplicable
from tui_lab.core.doctor.loop.criterion_inputs import SOFTMAX_OF_ONE, UNBOUNDED
from tui_lab.core.doctor.loop.observed import CriterionCall
from tui_lab.core.doctor.program.target import Target

TAKE_LOGARITHMS = ("kl_div", "nll_loss")
"""Loss functions that expect logarithms of probabilities."""
MIN_SEVERAL = 0.1
"""Fraction of the rows that have several labels, in each call."""
CLASSES_SECOND = ("cross_entropy", "nll_loss")
"""Loss functions whose input is [B, V, …]."""


def check(target: Target) -> Iterator[Finding]:
    calls = target.loop.observed.criteria
    if not calls:
        raise NotApplicable("the loop calls no loss function of torch")
    places: dict[tuple[str, str, int], list[CriterionCall]] = {}
    for call in calls:
        places.setdefault((call.name, call.line, call.place), []).append(call)
    codes: set[str] = set()
    for calls_of_line in places.values():
        for finding in _judged(calls_of_line):
            if finding.code not in codes:
                codes.add(finding.code)
                yield finding


def _judged(calls: Sequence[CriterionCall]) -> Iterator[Finding]:
    """Judge the calls of one line at one place of their update: all must have the mistake."""
    name = calls[0].name
    forms = {call.form for call in calls}
    makers = {call.made_by for call in calls}
    if all(call.compares_all for call in calls):
        yield replace(output_broadcast(calls[0].shape, calls[0].target_shape), location=calls[0].line)
    elif makers == {SOFTMAX_OF_ONE}:
        yield _softmax_of_one(calls[0])
    elif min(call.several for call in calls) > MIN_SEVERAL and (name == "cross_entropy" or makers == {"softmax"}):
        yield _exclusive_labels(calls[0])
    elif makers == {UNBOUNDED}:
        yield _missing_sigmoid(calls[0])
    elif name in CLASSES_SECOND and all(call.reshaped_from for call in calls):
        yield _scrambled(calls[0])
    elif name in TAKE_LOGARITHMS and (forms == {"probabilities"} or forms == {"scores"}):
        yield _missing_logarithm(calls)
    elif name == "cross_entropy" and makers == {"softmax"}:
        yield _second_softmax(calls[0])
    elif name == "binary_cross_entropy_with_logits" and makers == {"sigmoid"}:
        yield _second_sigmoid(calls[0], is_shown=True)
    elif (
        name == "binary_cross_entropy_with_logits"
        and forms == {"unit values"}
        and len(calls) > 1
        # A linear layer may give small positive values by chance, before it is trained.
        and "linear" not in makers
    ):
        yield _second_sigmoid(calls[0], is_shown=False)


def _scrambled(call: CriterionCall) -> Finding:
    evidence = f"a view makes {list(call.shape)} of {list(call.reshaped_from)} without moving the classes"
    return loss_finding("scrambled_logits", evidence, call.shape[1], call.line)


def _missing_logarithm(calls: Sequence[CriterionCall]) -> Finding:
    call = calls[0]
    is_probability = call.form == "probabilities"
    kind = "probabilities" if is_probability else "raw scores"
    other = "log_softmax instead of softmax" if is_probability else "log_softmax of the scores"
    total = sum(one.total for one in calls) / len(calls)
    return Finding(
        code="missing_log_softmax",
        title=f"{call.name} gets {kind}, but it expects logarithms of probabilities.",
        evidence=f"input {list(call.shape)}: over the classes, the values add up to {total:.4g}"
        if is_probability
        else f"input {list(call.shape)}: over the classes, exp(input) adds up to {total:.4g} on average, not to 1",
        why="The loss is not a distance between distributions; it can become negative, and its minimum is elsewhere.",
        fix=f"Pass {other}" + (", or use cross_entropy, which includes it." if call.name == "nll_loss" else "."),
        location=call.line,
        explains=("initial_loss", "cannot_overfit"),
    )


def _softmax_of_one(call: CriterionCall) -> Finding:
    return Finding(
        code="softmax_of_one",
        title="A softmax over one value: the output is 1, whatever the model computes.",
        evidence=f"input {list(call.shape)} of {call.name}: torch's graph shows that it comes from a softmax over an "
        "axis of size 1",
        why="A constant output has no gradient, so no weight before it is trained.",
        fix="For one output use sigmoid, with binary_cross_entropy_with_logits none of both; for a softmax return one "
        "output for each class, and apply it over the axis of the classes.",
        location=call.line,
        explains=("missing_gradient", "no_backward", "weights_never_move", "cannot_overfit", "gradient_flow"),
    )


def _exclusive_labels(call: CriterionCall) -> Finding:
    is_softmax = call.name != "cross_entropy"  # It has a use for such targets, too: counts of labels of each row.
    return Finding(
        code="exclusive_labels",
        kind="finding" if is_softmax else "hint",
        title=f"{call.several:.0%} of the rows have several labels, but a softmax makes them mutually exclusive.",
        evidence=f"targets {list(call.shape)} of zeros and ones; "
        + (
            f"torch's graph shows that the input of {call.name} comes from a softmax"
            if is_softmax
            else "cross_entropy includes a softmax"
        ),
        why="The outputs of a softmax add up to 1, so two labels of a row cannot both be near 1.",
        fix="Pass the logits to binary_cross_entropy_with_logits, which judges each label by itself.",
        location=call.line,
        explains=("cannot_overfit", "loss_not_falling") if is_softmax else (),
    )


def _missing_sigmoid(call: CriterionCall) -> Finding:
    return Finding(
        code="missing_sigmoid",
        title="binary_cross_entropy gets the output of a linear layer: a sigmoid is missing.",
        evidence=f"input {list(call.shape)}: torch's graph shows that it comes from a linear layer, and no sigmoid or "
        "softmax is between them",
        why="Outputs that are cut off at 0 or 1 have no gradient, so a wrong answer there is never corrected.",
        fix="Pass the output of the layer itself to binary_cross_entropy_with_logits; use sigmoid for predictions.",
        location=call.line,
        explains=("missing_gradient", "cannot_overfit"),
    )


def _second_softmax(call: CriterionCall) -> Finding:
    n_classes = call.shape[1] if len(call.shape) > 1 else call.shape[0]
    evidence = f"input {list(call.shape)}: torch's graph shows that it comes from softmax"
    return replace(double_softmax(n_classes, evidence), location=call.line)


def _second_sigmoid(call: CriterionCall, *, is_shown: bool) -> Finding:
    """is_shown: whether torch's graph shows the first sigmoid."""
    shown = "torch's graph shows that it comes from sigmoid" if is_shown else "all its values are between 0 and 1"
    finding = double_sigmoid(f"input {list(call.shape)}: {shown}", "finding" if is_shown else "hint")
    return replace(finding, location=call.line)

"""The stated loss and the trained one: their form, their scale, and whether they are the same."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.core.doctor.checks.programs import (
    Causal,
    Loss,
    WithLoss,
    cross_entropy,
    in_parts,
    labeled_target,
    pairs_case,
    results,
    scores_target,
    shifting_cross_entropy,
    text,
)
from tui_lab.core.doctor.checks.loss import loss, trained_loss
from tui_lab.core.doctor.findings import Finding, NotJudged
from tui_lab.core.doctor.loop.logits import LogitsGradients
from tui_lab.core.doctor.loop.record import LoopRecord, LossMeasurement
from tui_lab.core.doctor.measures.loss_forms import Form, read
from tui_lab.core.doctor.program.target import Target


def double_softmax(logits: Tensor, y: Tensor) -> Tensor:
    return cross_entropy(logits.softmax(dim=-1), y)


FORMS: list[tuple[Form, Loss]] = [
    ("cross_entropy", cross_entropy),
    ("double_softmax", double_softmax),
    ("probability", lambda z, y: F.nll_loss(z.softmax(-1).flatten(0, 1), y.flatten())),
    ("missing_log_softmax", lambda z, y: F.nll_loss(z.flatten(0, 1), y.flatten())),
    ("smoothed_cross_entropy", lambda z, y: F.cross_entropy(z.flatten(0, 1), y.flatten(), label_smoothing=0.1)),
    ("other", lambda z, y: F.mse_loss(z, F.one_hot(y, z.shape[-1]).float())),
    ("other", lambda z, y: F.cross_entropy(z.reshape(len(z), z.shape[2], -1), y)),
]


@pytest.mark.parametrize(("n_vocab", "scale"), [(11, 0.5), (1000, 0.1)])
@pytest.mark.parametrize(("form", "of"), FORMS)
def test_form_is_read_from_the_gradient_of_the_logits(form: Form, of: Loss, n_vocab: int, scale: float) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = scale * torch.randn(3, 16, n_vocab, generator=generator)
    y = torch.randint(n_vocab, (3, 16), generator=generator)
    logits.requires_grad_()
    (gradient,) = torch.autograd.grad(of(logits, y), [logits])
    reading = read(logits, gradient)
    assert reading.form == form
    if form != "other":
        assert torch.equal(reading.targets, y) and reading.total == pytest.approx(1, abs=0.02)


def test_ascent_weights_and_ignored_positions_are_read_from_the_gradient() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 16, 11, generator=generator).requires_grad_()
    y = torch.randint(11, (3, 16), generator=generator)
    y[:, :5] = -100
    summed = F.cross_entropy(logits.flatten(0, 1), y.flatten(), reduction="sum")
    (gradient,) = torch.autograd.grad(summed, [logits])
    reading = read(logits, -gradient)
    assert reading.ascent and reading.even and reading.total == pytest.approx(33)
    assert torch.equal(reading.counted, y != -100) and torch.equal(reading.targets[:, 5:], y[:, 5:])


def test_double_softmax_inside_the_model_is_found() -> None:
    found = [("finding", "double_softmax")]
    assert results(loss.check, labeled_target(WithLoss(double_softmax))) == found
    probabilities = WithLoss(cross_entropy, lambda logits: logits.softmax(dim=-1))
    assert results(loss.check, labeled_target(probabilities)) == found
    likelihood = WithLoss(
        lambda p, y: F.nll_loss(p.log().flatten(0, 1), y.flatten()), lambda logits: logits.softmax(dim=-1)
    )
    assert results(loss.check, labeled_target(likelihood)) == []
    assert results(loss.check, labeled_target(WithLoss(cross_entropy))) == []


@pytest.mark.parametrize(
    ("of", "code"),
    [
        (lambda z, y: F.cross_entropy(z.flatten(0, 1), y.flatten(), reduction="sum"), "summed_loss"),
        (lambda z, y: F.cross_entropy(z.flatten(0, 1), y.flatten(), reduction="sum") / len(y), "wrong_divisor"),
        (lambda z, y: -cross_entropy(z, y), "gradient_ascent"),
        (lambda z, y: F.nll_loss(z.flatten(0, 1), y.flatten()), "missing_log_softmax"),
        (lambda z, y: F.cross_entropy(z.reshape(len(z), z.shape[2], -1), y), "scrambled_logits"),
    ],
)
def test_mistakes_inside_the_model_are_found(of: Loss, code: str) -> None:
    assert results(loss.check, labeled_target(WithLoss(of))) == [("finding", code)]


def test_unusual_losses_are_not_judged() -> None:
    def focal(z: Tensor, y: Tensor) -> Tensor:
        return F.mse_loss(z.softmax(-1), F.one_hot(y, z.shape[-1]).float())

    assert results(loss.check, labeled_target(WithLoss(focal))) == [("not judged", "")]
    assert results(loss.check, pairs_case(loss=focal)) == [("not judged", "")]
    smoothed = pairs_case(loss=lambda z, y: F.cross_entropy(z.flatten(0, 1), y.flatten(), label_smoothing=0.1))
    assert results(loss.check, smoothed) == []


def test_two_classes_are_judged_as_any_other_number() -> None:
    def binary(step: int) -> tuple[Tensor, Tensor]:
        return text(step, 2)

    for of, found in [
        (cross_entropy, []),
        (double_softmax, [("finding", "double_softmax")]),
        (lambda z, y: -cross_entropy(z, y), [("finding", "gradient_ascent")]),
    ]:
        assert results(loss.check, pairs_case(Causal(2), batches=binary, loss=of)) == found


# Programs without tokens


class Scores(nn.Module):
    def __init__(self, n: int, change: Callable[[Tensor], Tensor] = lambda z: z) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, n))
        self.change = change

    def forward(self, x: Tensor) -> Tensor:
        return self.change(self.layers(x))


def classes(step: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(step)
    return torch.randn(16, 10, generator=generator), torch.randint(5, (16,), generator=generator)


def sums(step: int) -> tuple[Tensor, Tensor]:
    x, _ = classes(step)
    return x, x.sum(dim=1)


def signs(step: int) -> tuple[Tensor, Tensor]:
    x, _ = classes(step)
    return x, (x.sum(dim=1) > 0).float()[:, None]


@pytest.mark.parametrize(
    ("change", "of", "found"),
    [
        (lambda z: z, F.cross_entropy, []),
        (lambda z: z.log_softmax(-1), F.nll_loss, []),
        (lambda z: z, lambda z, y: F.cross_entropy(z, y, weight=torch.arange(1.0, 6.0)), []),
        (lambda z: z.softmax(-1), F.cross_entropy, [("finding", "double_softmax")]),
        (lambda z: z, lambda z, y: F.cross_entropy(z.softmax(-1), y), [("finding", "double_softmax")]),
        (lambda z: z, F.nll_loss, [("finding", "missing_log_softmax")]),
        (lambda z: z.softmax(-1), F.nll_loss, [("finding", "missing_log_softmax")]),
    ],
)
def test_classifiers_are_judged(change: Callable[[Tensor], Tensor], of: Loss, found: list[tuple[str, str]]) -> None:
    assert results(loss.check, scores_target(Scores(5, change), classes, of)) == found


def action_values(z: Tensor, y: Tensor, goal: float) -> Tensor:
    """The loss of deep Q-learning: each row trains the value of the action that was taken."""
    return F.smooth_l1_loss(z.gather(1, y[:, None])[:, 0], torch.full((len(y),), goal))


def measured_update(target: Target, of: Loss) -> LossMeasurement:
    """Return the measurement of the target's first update, whose loss was multiplied by 8."""
    x, y = target.batch(0)
    logits = target.model(x)
    measured = LogitsGradients()
    measured.called(x, logits)
    value = of(logits, y)
    measured.measure(value * 8, float(value.detach()), 8.0, "train.py:7", 0, [(None, y)])
    (value * 8).backward()  # type: ignore[no-untyped-call]
    return measured.measurements[0]


@pytest.mark.parametrize(
    ("of", "found"),
    [
        # All errors have one sign. Those above 1 all have the same gradient.
        (lambda z, y: action_values(z, y, 1.0), [("not judged", "")]),
        (lambda z, y: action_values(z, y, 9.0), [("not judged", "")]),
        (lambda z, y: action_values(z, y, -9.0), [("not judged", "")]),
        (lambda z, y: F.mse_loss(z[:, 0], z[:, 0].detach() + 1), [("not judged", "")]),
        (lambda z, y: -(z[torch.arange(len(y)), y] * torch.rand(len(y))).mean(), [("finding", "missing_log_softmax")]),
    ],
)
@pytest.mark.parametrize("is_stated", [True, False])
def test_values_of_actions_are_no_likelihoods(of: Loss, found: list[tuple[str, str]], is_stated: bool) -> None:
    target = scores_target(Scores(5), classes, of)
    if not is_stated:
        target = replace(target, record=LoopRecord(measurements=(measured_update(target, of),)))
    assert results(loss.check, target) == found


def test_outputs_that_are_broadcast_against_the_targets_are_found() -> None:
    def by_hand(output: Tensor, y: Tensor) -> Tensor:
        return ((output - y) ** 2).mean()

    found = [("finding", "output_broadcast")]
    assert results(loss.check, scores_target(Scores(1), sums, by_hand)) == found
    assert results(loss.check, scores_target(Scores(1), sums, F.mse_loss)) == found
    squeezed = scores_target(Scores(1, lambda z: z.squeeze(-1)), sums, F.mse_loss)
    assert results(loss.check, squeezed) == [("not judged", "")]


def test_pairs_of_rows_in_a_contrastive_loss_are_no_broadcast() -> None:
    def distances(output: Tensor, y: Tensor) -> Tensor:
        return (output - output.squeeze(-1)).abs().mean()

    assert results(loss.check, scores_target(Scores(1), sums, distances)) == [("not judged", "")]


def test_sigmoid_before_a_loss_with_logits_is_found() -> None:
    found = [("finding", "double_sigmoid")]
    with_logits = F.binary_cross_entropy_with_logits
    assert results(loss.check, scores_target(Scores(1, torch.sigmoid), signs, with_logits)) == found
    inside = scores_target(Scores(1), signs, lambda z, y: with_logits(z.sigmoid(), y))
    assert results(loss.check, inside) == found
    for healthy in (
        scores_target(Scores(1), signs, with_logits),
        scores_target(Scores(1, torch.sigmoid), signs, F.binary_cross_entropy),
    ):
        assert results(loss.check, healthy) == [("not judged", "")]


@pytest.mark.parametrize(
    ("change", "is_found"),
    [
        (lambda z: 0.5 + z / 10, False),  # Small values that are within [0, 1] by chance.
        (lambda z: 0.5 + 0.5 * torch.tanh(z), True),
        (lambda z: z.sigmoid().squeeze(-1)[:, None], True),
        (lambda z: torch.cat([z, -z], 1).softmax(1)[:, :1], True),
    ],
)
def test_scores_between_0_and_1_count_only_if_the_model_bounds_them(
    change: Callable[[Tensor], Tensor], is_found: bool
) -> None:
    target = scores_target(Scores(1, change), signs, F.binary_cross_entropy_with_logits)
    assert (results(loss.check, target) == [("finding", "double_sigmoid")]) == is_found


def test_loss_without_a_graph_is_not_judged() -> None:
    target = scores_target(Scores(5), classes, lambda z, y: F.cross_entropy(z.detach(), y))
    assert results(loss.check, target) == results(trained_loss.check, target) == [("not judged", "")]


# The update against the stated loss


@pytest.mark.parametrize(
    ("update", "found"),
    [
        (in_parts(lambda m, x, y: cross_entropy(m(x), y)), []),
        (in_parts(lambda m, x, y: cross_entropy(m(x), y) / 4, 4), []),
        (in_parts(lambda m, x, y: double_softmax(m(x), y)), [("finding", "double_softmax")]),
        (in_parts(lambda m, x, y: shifting_cross_entropy(m(x), y)), [("finding", "double_shift")]),
        (in_parts(lambda m, x, y: cross_entropy(m(x), x)), [("finding", "copied_targets")]),
        (
            in_parts(lambda m, x, y: F.cross_entropy(m(x).flatten(0, 1), y.flatten(), reduction="sum")),
            [("finding", "summed_loss")],
        ),
        (in_parts(lambda m, x, y: m(x).pow(2).mean()), [("hint", "other_loss")]),
    ],
)
def test_update_is_compared_with_the_stated_loss(update: Callable[..., None], found: list[tuple[str, str]]) -> None:
    target = pairs_case(loss=cross_entropy, update=update)
    assert results(trained_loss.check, target) == found


def test_dropout_is_switched_off_for_the_comparison() -> None:
    class Dropped(Causal):
        def forward(self, x: Tensor) -> Tensor:
            return F.dropout(super().forward(x), 0.5, self.training)

    assert results(trained_loss.check, pairs_case(Dropped(), loss=cross_entropy)) == []


def test_real_loop_is_judged_by_its_measurements() -> None:
    def measurement(of: Loss, step: int) -> LossMeasurement:
        x, y = text(step)
        logits = Causal()(x).detach().requires_grad_()
        (gradient,) = torch.autograd.grad(of(logits, y), [logits])
        return LossMeasurement(x, logits.detach(), gradient, line="train.py:7", targets=y)

    def findings(*measurements: LossMeasurement) -> list[Finding]:
        target = replace(pairs_case(), record=LoopRecord(measurements=measurements))
        return list(trained_loss.check(target))

    assert findings(measurement(cross_entropy, 0)) == []
    [softmax] = findings(measurement(double_softmax, 0))
    assert (softmax.code, softmax.location) == ("double_softmax", "train.py:7")


def test_update_without_a_step_is_not_judged() -> None:
    target = pairs_case(loss=cross_entropy, update=lambda model, optimizers, x, y: None)
    with pytest.raises(NotJudged):
        list(trained_loss.check(target))

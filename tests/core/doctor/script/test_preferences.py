"""Losses of preferences, such as DPO: their targets are read from the gradient, and judged like any others."""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.core.doctor.checks.programs import Causal, results
from tests.core.doctor.script.training import examined
from tui_lab.core.doctor.checks.data import targets
from tui_lab.core.doctor.checks.loss import loss as loss_check
from tui_lab.core.doctor.checks.training import overfit, trained_reference
from tui_lab.core.doctor.program.target import Target

V, PROMPT, ANSWER, PAIRS, PADDING = 23, 5, 12, 4, 0
Batch = tuple[Tensor, Tensor, Tensor]
LogProbs = Callable[[Tensor, Tensor], Tensor]


@pytest.fixture(autouse=True)
def _seed() -> Iterator[None]:
    torch.manual_seed(0)
    yield


def batch(step: int) -> Batch:
    """Return x, y and the mask of the answers, [2 · PAIRS, T]: the chosen rows, then the rejected ones."""
    generator = torch.Generator().manual_seed(step)
    prompts = torch.randint(2, V, (PAIRS, PROMPT), generator=generator)
    answers = torch.randint(2, V, (2, PAIRS, ANSWER), generator=generator)
    ids = torch.cat([torch.cat([prompts, answer], dim=1) for answer in answers])
    lengths = torch.randint(PROMPT + 4, PROMPT + ANSWER - 2, (len(ids), 1), generator=generator)
    place = torch.arange(ids.shape[1])
    ids = ids.masked_fill(place >= lengths, PADDING)
    mask = (place >= PROMPT) & (place < lengths)
    return ids[:, :-1], ids[:, 1:], mask[:, 1:]


def gathered(logits: Tensor, y: Tensor) -> Tensor:
    return logits.log_softmax(-1).gather(-1, y[..., None])[..., 0]


def selected(logits: Tensor, y: Tensor) -> Tensor:
    chosen = logits.gather(-1, y[..., None])[..., 0]
    return chosen - torch.stack([row.logsumexp(-1) for row in logits])


def negated(logits: Tensor, y: Tensor) -> Tensor:
    return -F.cross_entropy(logits.transpose(1, 2), y, reduction="none")


def preference(
    change: Callable[[Batch], Batch] = lambda batch: batch,
    log_probs: LogProbs = gathered,
    of: str = "dpo",
    *,
    apart: bool = False,
) -> Target:
    """Return the target of a script that trains with a loss of preferences.

    change: what is wrong with its batches. apart: whether it calls the model once for each half of the rows.
    """
    model = Causal()
    reference = copy.deepcopy(model).requires_grad_(False)

    def loss(model: nn.Module, step: int) -> Tensor:
        x, y, mask = change(batch(step))
        with torch.no_grad():
            expected = (log_probs(reference(x), y) * mask).sum(1)
        logits = torch.cat([model(half) for half in x.chunk(2)]) if apart else model(x)
        likelihood = (log_probs(logits, y) * mask).sum(1)
        if of == "answers":
            return -likelihood.sum() / mask.sum()
        if of in ("rewards", "costs"):
            return -(likelihood * torch.linspace(-1, 1 if of == "rewards" else -0.1, len(x))).mean()
        chosen, rejected = (likelihood - expected).chunk(2)
        return (chosen - rejected - 5).pow(2).mean() if of == "ipo" else -F.logsigmoid(0.5 * (chosen - rejected)).mean()

    return examined(model, loss)


@pytest.mark.parametrize(
    ("of", "log_probs", "apart"),
    [
        *((of, log_probs, False) for of in ("dpo", "answers") for log_probs in (gathered, selected, negated)),
        *((of, gathered, True) for of in ("dpo", "ipo", "rewards", "answers")),
    ],
)
def test_targets_of_preferences_are_read_from_the_gradient(log_probs: LogProbs, of: str, *, apart: bool) -> None:
    target = preference(log_probs=log_probs, of=of, apart=apart)
    assert results(targets.check, target) == []


def exchanged(batch: Batch) -> Batch:
    x, y, mask = batch
    return x.roll(PAIRS, 0), y, mask


def copied(batch: Batch) -> Batch:
    x, _, mask = batch
    return x, x, mask


def too_far(batch: Batch) -> Batch:
    x, y, mask = batch
    return x[:, :-1], y[:, 1:], mask[:, 1:]


def reversed_mask(batch: Batch) -> Batch:
    x, y, mask = batch
    return x, y, ~mask & (y != PADDING)


def padding_counts(batch: Batch) -> Batch:
    x, y, mask = batch
    return x, y, mask | (y == PADDING)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (exchanged, ("finding", "swapped_rows")),
        (copied, ("finding", "copied_targets")),
        (too_far, ("finding", "shifted_targets")),
        (reversed_mask, ("finding", "ignored_targets")),
        (padding_counts, ("hint", "padding_trained")),
    ],
)
@pytest.mark.parametrize("apart", [False, True])
def test_wrong_targets_of_preferences_are_found(
    change: Callable[[Batch], Batch], found: tuple[str, str], *, apart: bool
) -> None:
    assert results(targets.check, preference(change, apart=apart)) == [found]


def test_halves_that_are_exchanged_are_named() -> None:
    (finding,) = targets.check(preference(exchanged))
    assert "half" in finding.evidence and finding.title.startswith("100%")


def test_loss_of_pairs_is_not_tried_on_some_rows() -> None:
    target = preference()  # Its value is ln 2 at first, whatever the rows.
    assert target.fixed_shape and len(target.probe.x) == 2 * PAIRS
    assert not preference(of="rewards").fixed_shape


class Scored(nn.Module):
    """A model and its reference; the optimizer holds the parameters of both, unless the reference is frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.model = Causal()
        self.reference = copy.deepcopy(self.model)


def compared(change: Callable[[Scored], object] = lambda models: None, *, of: str = "dpo") -> Target:
    """Return the target of a script whose loss compares two models that its optimizer may hold."""
    models = Scored()
    change(models)

    def loss(models: nn.Module, step: int) -> Tensor:
        assert isinstance(models, Scored)
        x, y, mask = batch(step)
        parts = x.chunk(2) if of == "dpo, halves" else (x,)
        outputs = (torch.cat([model(part) for part in parts]) for model in (models.model, models.reference))
        first, second = (gathered(output, y) for output in outputs)
        if of == "two models":
            return -((first + second) * mask).sum()
        if of == "difference of logits":
            return F.cross_entropy((models.model(x) - models.reference(x)).transpose(1, 2), y)
        chosen, rejected = ((first - second) * mask).sum(1).chunk(2)
        return -F.logsigmoid(0.5 * (chosen - rejected)).mean()

    return examined(models, loss)


def evaluated(models: Scored) -> None:
    models.reference.eval()


def test_reference_that_the_optimizer_holds_is_found() -> None:
    (finding,) = trained_reference.check(compared(evaluated))
    assert (finding.kind, finding.code) == ("finding", "trained_reference") and "training.py:" in finding.location
    assert results(trained_reference.check, compared()) == [("hint", "trained_reference")]


def test_two_models_that_are_meant_to_be_trained_are_no_references() -> None:
    assert results(trained_reference.check, compared(evaluated, of="two models")) == []
    # The loss does not show which targets each of them is trained on.
    difference = compared(evaluated, of="difference of logits")
    assert results(trained_reference.check, difference) == [("not judged", "")]


def test_reference_that_is_called_for_each_half_is_found() -> None:
    assert results(trained_reference.check, compared(evaluated, of="dpo, halves")) == [("finding", "trained_reference")]


def test_frozen_reference_is_healthy() -> None:
    frozen = compared(lambda models: models.reference.eval().requires_grad_(False))
    assert results(trained_reference.check, frozen) == [("not applicable", "")]
    assert results(targets.check, frozen) == []
    assert results(trained_reference.check, preference()) == [("not applicable", "")]


class ScoresLabels(nn.Module):
    """As a model under TRL's trainers: it shifts the labels and returns their log-probabilities, and no logits."""

    def __init__(self) -> None:
        super().__init__()
        self.model = Causal()

    def forward(self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor) -> Any:
        following = labels[:, 1:]
        log_probs = gathered(self.model(input_ids)[:, :-1], following.clamp(min=0))
        return {"log_probs": log_probs.masked_fill(following < 0, 0.0), "entropy": torch.zeros(len(labels))}


def of_labels(change: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] = lambda ids, labels: (ids, labels)) -> Target:
    """Return the target of DPO with such a model. change: what is wrong with its ids and labels."""

    def loss(model: nn.Module, step: int) -> Tensor:
        x, y, mask = batch(step)
        ids = torch.cat([x, y[:, -1:]], dim=1)
        answers = ids.masked_fill(~F.pad(mask, (1, 0)), -100)
        ids, labels = change(ids, answers)
        scores = model(input_ids=ids, attention_mask=(ids != PADDING).long(), labels=labels)["log_probs"].sum(1)
        chosen, rejected = scores.chunk(2)
        return -F.logsigmoid(0.5 * (chosen - rejected)).mean()

    return examined(ScoresLabels(), loss)


def prompts_only(ids: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    return ids, ids.masked_fill((labels >= 0) | (ids == PADDING), -100)


def shifted_before(ids: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    return ids[:, :-1], labels[:, 1:]


def of_other_half(ids: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    return ids.roll(PAIRS, 0), labels


@pytest.mark.parametrize(
    ("change", "code"),
    [(prompts_only, "ignored_targets"), (shifted_before, "double_shift"), (of_other_half, "swapped_rows")],
)
def test_labels_of_a_model_without_logits_are_judged(
    change: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]], code: str
) -> None:
    assert results(targets.check, of_labels()) == []
    assert results(targets.check, of_labels(change)) == [("finding", code)]


@pytest.mark.parametrize("of", ["rewards", "costs"])
def test_rewards_that_lower_the_first_rows_have_no_wrong_sign(of: str) -> None:
    assert results(loss_check.check, preference(of=of)) == [("not judged", "")]


def test_rows_are_memorized_by_the_targets_that_a_mask_leaves() -> None:
    assert results(overfit.check, preference(of="answers", log_probs=negated)) == []

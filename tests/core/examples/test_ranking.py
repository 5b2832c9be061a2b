"""The losses of examples, their order, and counts over checkpoints, against plain computations in float64."""

import numpy as np
import numpy.typing as npt
import pytest
import torch

from tests.core.tiny import trainer
from tui_lab.core.examples.measure import MeasuredRows, measure
from tui_lab.core.examples.ranking import Hardest, WrongCounts
from tui_lab.data.dataset import IGNORED


def made_up(losses: list[list[float]], wrong: list[list[int]], first: int = 0) -> MeasuredRows:
    """Rows whose targets are 0 and whose predictions are 1 where wrong; a loss of NaN has no target."""
    array = np.array(losses, np.float32)
    y = np.where(np.isnan(array), IGNORED, 0)
    return MeasuredRows(first + np.arange(len(y)), np.zeros_like(y), y, array, np.array(wrong))


def test_losses_and_predictions_are_those_of_the_logits_in_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tui_lab.core.examples.measure.TOKENS_PER_BATCH", 17)  # Three rows at a time.
    training = trainer("model.dropout=0.5")
    model = training.model.eval()
    ids = np.array([7, 0, 3, 11, 5])
    x, y = training.task.train.examples(ids)
    with torch.no_grad():
        logits = model.double()(torch.from_numpy(x)).numpy()
    model.float()
    expected = np.log(np.exp(logits).sum(-1)) - np.take_along_axis(logits, np.maximum(y, 0)[..., None], -1)[..., 0]
    batches = list(measure(model, training.task.train, ids))
    assert [len(batch.ids) for batch in batches] == [3, 2]
    losses = np.concatenate([batch.losses for batch in batches])
    assert (np.isnan(losses) == (y == IGNORED)).all()
    np.testing.assert_allclose(losses[y != IGNORED], expected[y != IGNORED], rtol=1e-5)
    assert (np.concatenate([batch.predicted for batch in batches]) == logits.argmax(-1)).all()
    means = np.concatenate([batch.mean_losses for batch in batches])
    np.testing.assert_allclose(means, [row[t != IGNORED].mean() for row, t in zip(expected, y, strict=True)], rtol=1e-5)


def test_hardest_examples_of_any_number_of_batches() -> None:
    rng = np.random.default_rng(0)
    losses: npt.NDArray[np.float64] = rng.exponential(size=(100, 6))
    losses[rng.random((100, 6)) < 0.2] = np.nan
    hardest = Hardest(7)
    for start in range(0, 100, 9):
        rows = losses[start : start + 9].tolist()
        hardest.add(made_up(rows, [[1, 0, 0, 0, 0, 0]] * len(rows), start))
    means = np.nanmean(losses.astype(np.float32), axis=1, dtype=np.float64)
    assert hardest.ids.tolist() == np.argsort(-means)[:7].tolist()
    assert hardest.mean_loss == pytest.approx(np.nanmean(losses))
    assert hardest.n_wrong == hardest.n_wrong_examples == (~np.isnan(losses[:, 0])).sum()


def test_rows_without_targets_have_no_loss_and_those_of_a_broken_model_come_first() -> None:
    measured = made_up([[1.0, 2.0], [np.nan, np.nan], [np.nan, 1.0]], [[0, 0]] * 3)
    measured.losses[2, 1] = np.nan  # There is a target, and the model's loss is not a number.
    hardest = Hardest(5)
    hardest.add(measured)
    assert hardest.ids.tolist() == [2, 0]


def test_counts_over_checkpoints() -> None:
    """Row 0 is always right, row 1 wrong, right, wrong (forgotten once), row 2 always wrong at its second target."""
    counts = WrongCounts(np.array([10, 20, 30]), 2)
    for row_1 in ([1, 1], [0, 0], [0, 1]):
        losses = [[1.0, 1.0]] * 3
        counts.add([made_up(losses[:2], [[0, 0], row_1]), made_up(losses[2:], [[0, 1]])])
    assert counts.order_by_example().tolist() == [2, 1, 0]
    assert counts.n_ever_wrong == 2
    assert counts.fraction == pytest.approx(6 / 18)
    right, forgotten, always = counts.of([0, 1, 2])
    assert (right.n_checkpoints, right.n_wrong, right.n_always) == (0, 0, 0)
    assert (forgotten.n_checkpoints, forgotten.n_wrong, forgotten.n_always, forgotten.n_forgotten) == (2, 3, 0, 1)
    assert (always.n_checkpoints, always.n_wrong, always.n_predictions, always.n_always) == (3, 3, 6, 1)
    assert always.n_forgotten == 0


def test_order_by_the_fraction_of_wrong_targets_then_by_loss() -> None:
    counts = WrongCounts(np.arange(3), 2)
    counts.add([made_up([[1.0, 1.0], [2.0, 2.0], [np.nan, 1.0]], [[0, 1], [1, 0], [0, 1]])])
    assert counts.order().tolist() == [2, 1, 0]

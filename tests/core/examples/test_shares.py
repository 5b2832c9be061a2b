"""The share of the loss by class, against counts by hand."""

import numpy as np
import pytest

from tui_lab.core.examples.measure import MeasuredRows
from tui_lab.core.examples.report import Partition
from tui_lab.core.examples.shares import UNSEEN, classes_of, token_counts
from tui_lab.data.corpora.encode import Corpus
from tui_lab.data.dataset import Task
from tui_lab.data.tasks.reverse import reverse_task
from tui_lab.data.tasks.text import TextWindows, text_task
from tui_lab.data.tokenizers import CharTokenizer

TRAIN, VAL = "We met Bo, 7 times.  ", "On 5 we saw Bo: "


def task() -> Task:
    tokens = CharTokenizer().encode(TRAIN + VAL).astype(np.uint16)
    corpus = Corpus("test", tokens, CharTokenizer(), len(tokens), 0)
    return text_task(corpus, context=5, stride=1, val_fraction=len(VAL) / len(tokens), vocab="all")


def measured(task: Task, part: str, ids: list[int]) -> MeasuredRows:
    """Rows whose loss at position t is t + 1, of which the last prediction is wrong."""
    x, y = (task.train if part == "train" else task.val).examples(np.array(ids))
    losses = np.broadcast_to(np.arange(1, x.shape[1] + 1, dtype=np.float32), x.shape)
    predicted = y.copy()
    predicted[:, -1] += 1
    return MeasuredRows(np.array(ids), x, y, losses, predicted)


def shares(partition: Partition) -> dict[str, tuple[int, float | None, float]]:
    return {share.name: (share.n_targets, share.loss, share.wrong) for share in partition.classes}


def test_shares_of_a_hand_counted_text() -> None:
    """Windows 0, 5, 10 of "We met Bo, 7 times.  " have the targets "e met", " Bo, ", "7 tim"."""
    data = task()
    kinds, frequency = (classes for classes in classes_of(data, data.train))
    for ids in ([0, 5], [10]):
        kinds.add(measured(data, "train", ids))
    partition = kinds.partition()
    assert shares(partition) == {
        "whitespace": (4, (2 + 1 + 5 + 2) / 4, pytest.approx(1 / 4)),
        "punctuation": (1, 4.0, 0.0),
        "digits": (1, 1.0, 0.0),
        "names": (2, (2 + 3) / 2, 0.0),
        "other words": (7, pytest.approx((1 + 3 + 4 + 5 + 3 + 4 + 5) / 7), pytest.approx(2 / 7)),
    }
    assert sum(share.share_of_targets for share in partition.classes) == pytest.approx(1)
    assert sum(share.share_of_loss for share in partition.classes) == pytest.approx(1)
    assert {share.name: share.share_of_loss for share in partition.classes}["names"] == pytest.approx(5 / 45)
    assert frequency.n.sum() == 0


def test_frequency_is_that_in_the_training_part() -> None:
    """The validation windows "On 5 w" and "we saw" have five targets that the training part does not: n, 5, w, a, w."""
    data = task()
    frequency = classes_of(data, data.val)[1]
    frequency.add(measured(data, "val", [0, 1]))
    unseen = sum(target not in TRAIN for target in "n 5 w" + "e saw")
    assert unseen == 5
    assert shares(frequency.partition())[UNSEEN][0] == unseen
    assert sum(share.n_targets for share in frequency.partition().classes) == 10
    assert isinstance(data.train, TextWindows)
    counts = token_counts(data.train, 256)
    assert {chr(i): int(n) for i, n in enumerate(counts) if n} == {letter: TRAIN.count(letter) for letter in TRAIN}


def test_positions_of_the_reverse_task() -> None:
    """Of rows of four digits, the third output is wrong; it is a copy of the second input."""
    data = reverse_task(length=4, n_digits=3, val_fraction=0.3)
    positions, digits = classes_of(data, data.train)
    ids = np.arange(7)
    x, y = data.train.examples(ids)
    losses = np.where(y < 0, np.nan, np.arange(-2, 5, dtype=np.float32))
    predicted = y.copy()
    predicted[:, -2] = (y[:, -2] + 1) % 3
    for classes in (positions, digits):
        classes.add(MeasuredRows(ids, x, y, losses, predicted))
    by_name = shares(positions.partition())
    assert list(by_name) == ["output 1, input 4", "output 2, input 3", "output 3, input 2", "output 4, input 1"]
    assert by_name["output 3, input 2"] == (7, 3.0, 1.0)
    assert [wrong for _, _, wrong in by_name.values()] == [0, 0, 1, 0]
    assert (y[:, -2] == x[:, 1]).all()
    assert {name: n for name, (n, _, _) in shares(digits.partition()).items()} == {
        str(digit): int((x[:, :4] == digit).sum()) for digit in range(3) if (x[:, :4] == digit).any()
    }

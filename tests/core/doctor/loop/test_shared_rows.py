"""Rows of a validation part that are also training rows, and rows that repeat by chance."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tui_lab.core.doctor.checks.data import validation_leak
from tui_lab.core.doctor.findings import Finding, NotJudged
from tui_lab.core.doctor.loop.observed import SharedRows
from tui_lab.core.doctor.loop.record import LoopRecord
from tui_lab.core.doctor.loop.recorder import LoopRecorder

LENGTH = 16
N_IDS = 11


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(N_IDS, 8)
        self.head = nn.Linear(8, N_IDS)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.embedding(x))
        return logits


def evaluate(model: nn.Module, rows: Tensor) -> None:
    with torch.no_grad():
        for x in torch.split(rows, 16):
            model(x)


def estimate_loss(model: nn.Module, rows: Tensor, split: str) -> None:
    assert split
    with torch.no_grad():
        model(rows[:64])


def codes(train_rows: Tensor, val_rows: Tensor, *, split: str = "", name: str = "val_rows") -> list[str]:
    """Train on the rows for two epochs, and evaluate `val_rows` under a name of the training or validation part."""
    model = Model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with LoopRecorder() as recorder:
        for _ in range(2):
            for x in torch.split(train_rows[torch.randperm(len(train_rows))], 16):
                optimizer.zero_grad()
                torch.autograd.backward(F.cross_entropy(model(x).flatten(0, 1), x.flatten()))
                optimizer.step()
        if split:
            estimate_loss(model, val_rows, split)
        elif name == "train_rows":
            train_rows = val_rows
            evaluate(model, train_rows)
        else:
            evaluate(model, val_rows)
    findings: list[Finding] = list(validation_leak._of_rows(recorder.record().observed.shared_rows))
    return [finding.code for finding in findings]


def test_validation_with_gradients_is_no_training(stream: Tensor) -> None:
    model = Model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    train_rows, val_rows = windows(stream[:200])[::16], windows(stream[200:])[::16]
    with LoopRecorder() as recorder:
        for _ in range(3):
            optimizer.zero_grad()
            torch.autograd.backward(F.cross_entropy(model(train_rows).flatten(0, 1), train_rows.flatten()))
            optimizer.step()
            F.cross_entropy(model(val_rows).flatten(0, 1), val_rows.flatten())
            evaluate(model, val_rows)
    record = recorder.record()
    assert list(validation_leak._of_rows(record.observed.shared_rows)) == []
    assert [len(set(update.rows)) for update in record.updates] == [len(train_rows)] * 3


def windows(stream: Tensor) -> Tensor:
    return stream.unfold(0, LENGTH, 1)


@pytest.fixture
def stream() -> Tensor:
    return torch.randint(0, N_IDS, (400,), generator=torch.Generator().manual_seed(0))


def test_validation_rows_that_are_training_rows() -> None:
    rows = torch.randint(0, N_IDS, (128, LENGTH))
    assert codes(rows, rows[:64]) == ["leaked_validation"]
    assert codes(rows, rows[:64], split="val") == ["leaked_validation"]
    assert codes(rows, torch.randint(0, N_IDS, (64, LENGTH))) == []


def test_training_part_may_be_evaluated() -> None:
    rows = torch.randint(0, N_IDS, (128, LENGTH))
    assert codes(rows, rows[:64], split="train") == []
    assert codes(rows, rows[:64], name="train_rows") == []


def test_windows_split_at_random(stream: Tensor) -> None:
    every = windows(stream)
    order = torch.randperm(len(every))
    assert codes(every[order[80:]], every[order[:80]]) == ["leaked_validation"]
    assert codes(every[: 300 - LENGTH], every[300:]) == []


def test_rows_that_repeat_by_chance() -> None:
    def counting(n: int) -> Tensor:
        return (torch.randint(0, N_IDS, (n, 1)) + torch.randint(1, 3, (n, 1)) * torch.arange(LENGTH)) % N_IDS

    assert codes(counting(320), counting(64)) == []


def test_few_rows_are_not_judged() -> None:
    few = SharedRows(
        n=4,
        n_same=4,
        n_near=0,
        n_trained=64,
        n_halved=32,
        n_shared_halved=32,
        length=LENGTH,
        is_by_chance=False,
        line="",
    )
    assert list(validation_leak._of_rows((few,))) == []


def test_streams_of_the_same_phrases_repeat_by_chance() -> None:
    """Two parts of a text of few phrases share most of their windows, though they are apart."""
    generator = torch.Generator().manual_seed(0)
    phrases = torch.randint(0, N_IDS, (16, 9), generator=generator)

    def part(n: int) -> Tensor:
        return windows(phrases[torch.randint(0, len(phrases), (n,), generator=generator)].flatten())

    train_rows = part(400)
    assert codes(train_rows, part(100)) == []


def recorded(train_rows: Tensor, val_rows: Tensor) -> LoopRecord:
    """Train once on each row, and evaluate the others."""
    model = Model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with LoopRecorder() as recorder:
        for x in torch.split(train_rows, 16):
            optimizer.zero_grad()
            torch.autograd.backward(F.cross_entropy(model(x).flatten(0, 1), x.flatten()))
            optimizer.step()
        evaluate(model, val_rows)
    return recorder.record()


def compared(train_rows: Tensor, val_rows: Tensor) -> SharedRows:
    (rows,) = recorded(train_rows, val_rows).observed.shared_rows
    return rows


def drawn(stream: Tensor, n: int, seed: int) -> Tensor:
    every = windows(stream)
    return every[torch.randint(len(every), (n,), generator=torch.Generator().manual_seed(seed))]


@pytest.fixture
def long_stream() -> Tensor:
    return torch.randint(0, N_IDS, (20_000,), generator=torch.Generator().manual_seed(0))


def test_few_windows_of_a_long_stream_show_that_validation_is_drawn_from_it(long_stream: Tensor) -> None:
    rows = compared(drawn(long_stream, 800, seed=1), drawn(long_stream, 160, seed=2))
    assert rows.n_shared < rows.n / 2
    assert [finding.code for finding in validation_leak._of_rows([rows])] == ["leaked_validation"]


def test_few_windows_of_a_long_stream_show_that_its_parts_are_apart(long_stream: Tensor) -> None:
    record = recorded(drawn(long_stream[:18_000], 800, seed=1), drawn(long_stream[18_000:], 160, seed=2))
    (rows,) = record.observed.shared_rows
    assert list(validation_leak._of_rows([rows])) == []
    assert validation_leak._excludes_leak(rows)
    assert list(validation_leak._of_script(record)) == []


@pytest.mark.parametrize("validation_from", [0, 18_000])
def test_windows_too_few_to_overlap_are_not_judged(long_stream: Tensor, validation_from: int) -> None:
    record = recorded(drawn(long_stream[:18_000], 32, seed=1), drawn(long_stream[validation_from:], 32, seed=2))
    with pytest.raises(NotJudged):
        list(validation_leak._of_script(record))


@pytest.mark.parametrize(("length", "is_short"), [(8, True), (16, False)])
def test_short_rows_are_the_reason_if_nothing_is_compared(long_stream: Tensor, length: int, is_short: bool) -> None:
    record = recorded(drawn(long_stream, 32, seed=1)[:, :length], drawn(long_stream, 32, seed=2)[:, :length])
    with pytest.raises(NotJudged) as raised:
        list(validation_leak._of_script(record))
    assert (f"rows of {length} ids" in str(raised.value)) == is_short


@pytest.mark.parametrize(("is_leak", "expected"), [(True, ["leaked_validation"]), (False, [])])
def test_slices_are_of_the_part_that_they_were_cut_from(
    long_stream: Tensor, is_leak: bool, expected: list[str]
) -> None:
    val = long_stream[0 if is_leak else 18_000 :][:1600].view(20, 80)
    model = Model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def average() -> None:
        with torch.no_grad():
            for i in range(0, val.shape[1], LENGTH):
                vx = val[:, i : i + LENGTH]
                model(vx)

    with LoopRecorder() as recorder:
        for x in torch.split(long_stream[:9_600].view(-1, LENGTH), 16):
            optimizer.zero_grad()
            torch.autograd.backward(F.cross_entropy(model(x).flatten(0, 1), x.flatten()))
            optimizer.step()
        average()
    (rows,) = recorder.record().observed.shared_rows
    assert rows.n == 100
    assert [finding.code for finding in validation_leak._of_rows([rows])] == expected


def test_a_constant_batch_is_counted_once(long_stream: Tensor) -> None:
    record = recorded(drawn(long_stream[:18_000], 16, seed=1).repeat(20, 1), drawn(long_stream[18_000:], 160, seed=2))
    (rows,) = record.observed.shared_rows
    assert rows.n_trained == 16
    with pytest.raises(NotJudged) as raised:
        list(validation_leak._of_script(record))
    assert "16 different training rows" in str(raised.value)


def test_without_evaluations_the_length_of_rows_is_no_reason(long_stream: Tensor) -> None:
    record = recorded(drawn(long_stream, 32, seed=1)[:, :8], long_stream[:0].view(0, 8))
    record = replace(record, evaluation_rows=frozenset(), updates=tuple(replace(u, events=()) for u in record.updates))
    with pytest.raises(NotJudged) as raised:
        list(validation_leak._of_script(record))
    assert "evaluated nothing" in str(raised.value)


def test_ids_with_the_batch_along_the_second_axis_are_not_called_short(long_stream: Tensor) -> None:
    record = recorded(drawn(long_stream, 32, seed=1)[:, :8], drawn(long_stream, 32, seed=2)[:, :8])
    with pytest.raises(NotJudged) as raised:
        list(validation_leak._of_script(record, n_ids=16))  # Its batches are [16, 8].
    assert "[T, B]" in str(raised.value)


def test_rows_that_repeat_by_chance_exclude_no_leak() -> None:
    rows = SharedRows(
        n=64,
        n_same=0,
        n_near=0,
        n_trained=64,
        n_halved=32,
        n_shared_halved=32,
        length=LENGTH,
        is_by_chance=True,
        line="",
    )
    assert not validation_leak._excludes_leak(rows)
    assert validation_leak._excludes_leak(replace(rows, is_by_chance=False))

"""Rows that stood out: those planted are found, whenever and however often the growing log is read."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from tui_lab.core import events as ev
from tui_lab.core.runs import row_log
from tui_lab.core.runs.outlier_rows import OutlierIndex, first_comparable, strongest
from tui_lab.core.runs.row_log import Growing, RowLog
from tui_lab.core.training.update_rows import UpdateRows

N_STEPS = 200
N_ROWS = 8
PLANTED = {(45, 3): 7, (90, 0): 7, (91, 5): 300, (199, 2): 301}
"""(step, place in the batch) → example of a row with a high loss."""


def update(step: int) -> UpdateRows:
    draw = np.random.default_rng(step)
    ids = draw.integers(1000, 2000, N_ROWS)
    losses = draw.normal(2.0, 0.1, N_ROWS)
    for (planted_step, place), example in PLANTED.items():
        if step == planted_step:
            ids[place] = example
            losses[place] = 6.0 + place / 10
    sums = (4 * losses).astype(np.float32)
    return UpdateRows(step, float(losses.mean()), ids, sums, np.full(N_ROWS, 4, np.float32))


def drawn_otherwise(step: int) -> UpdateRows:
    """The rows of a step as another run drew them: without the planted ones."""
    rows = update(step + 1000)
    return UpdateRows(step, rows.loss, rows.ids, rows.sums, rows.targets)


def log_of(folder: Path, steps: Iterable[int]) -> RowLog:
    log = RowLog(folder)
    for step in steps:
        assert log.append(update(step)) is None
    return log


def planted_in(index: OutlierIndex, first: int = 0) -> list[tuple[int, int]]:
    return [(row.step, row.row) for row in index.read(first) if row.example < 1000]


def test_planted_rows_are_found_with_their_place(tmp_path: Path) -> None:
    outliers = OutlierIndex(log_of(tmp_path, range(1, N_STEPS + 1))).read(0)
    planted = [row for row in outliers if row.example < 1000]
    assert {(row.step, row.row): row.example for row in planted} == PLANTED
    assert {row.n_rows for row in planted} == {N_ROWS}
    assert all(row.typical == pytest.approx(2.0, abs=0.1) and row.excess > 3.5 for row in planted)
    assert [row.example for row in strongest(planted)] == [300, 7, 301], "each once, the highest excess first"


def test_log_that_grows_gives_the_same_as_one_that_is_read_at_the_end(tmp_path: Path) -> None:
    log = RowLog(tmp_path)
    index = OutlierIndex(log)
    for step in range(1, N_STEPS + 1):
        log.append(update(step))
        if step % 7 == 0:
            index.read(0)
    assert index.read(0) == OutlierIndex(log).read(0)


def test_only_what_is_new_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = log_of(tmp_path, range(1, N_STEPS + 1))
    index = OutlierIndex(log)
    first = index.read(0)
    n_read: list[int] = []
    read_after = RowLog.read_after

    def counted(self: RowLog, earlier: Growing) -> Growing | None:
        new = read_after(self, earlier)
        n_read.append(-1 if new is None else len(new.records.steps))
        return new

    monkeypatch.setattr(RowLog, "read_after", counted)
    assert index.read(0) == first
    log.append(update(N_STEPS + 1))
    index.read(0)
    assert n_read == [0, 1]


def test_run_that_went_back_to_a_checkpoint_is_read_again(tmp_path: Path) -> None:
    log = log_of(tmp_path, range(1, N_STEPS + 1))
    index = OutlierIndex(log)
    assert planted_in(index) == list(PLANTED)
    log.cut(60)
    for step in range(61, N_STEPS + 1):
        log.append(drawn_otherwise(step))
    assert planted_in(index) == [(45, 3)]


def test_log_whose_files_change_places_is_read_whole(tmp_path: Path) -> None:
    size = len(row_log.encode(update(1)))
    log = RowLog(tmp_path, 240 * size)
    index = OutlierIndex(log)
    for step in range(1, N_STEPS + 1):
        log.append(update(step))
        if step == 100:
            assert planted_in(index) == [(45, 3), (90, 0), (91, 5)]
    assert log.older_path.exists() and planted_in(index) == list(PLANTED)


def test_steps_before_other_data_are_not_compared(tmp_path: Path) -> None:
    index = OutlierIndex(log_of(tmp_path, range(1, N_STEPS + 1)))
    assert planted_in(index) == list(PLANTED)
    changes = [
        ev.Changed(step=80, key="data.path", old="a", new="b"),
        ev.Changed(step=150, key="data.skip_examples", old=(), new=(1,)),
    ]
    assert first_comparable(changes) == 81
    assert planted_in(index, 81) == [(199, 2)], "32 steps are needed to know what is typical"

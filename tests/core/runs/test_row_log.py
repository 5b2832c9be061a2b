"""row_losses.bin: what was written is read, whatever the batch sizes; it is bounded, cut, and survives torn records."""

import tempfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tui_lab.core.runs.row_log import Records, RowLog, encode, mean_losses
from tui_lab.core.training.update_rows import UpdateRows
from tui_lab.util.errors import RunError


def update(step: int, n: int = 2) -> UpdateRows:
    draw = np.random.default_rng(step)
    return UpdateRows(
        step=step,
        loss=float(draw.normal()),
        ids=draw.integers(0, 5, n),
        sums=draw.normal(size=n).astype(np.float32),
        targets=draw.integers(0, 3, n).astype(np.float32),
    )


def written(folder: Path, *updates: UpdateRows, most_bytes: int = 2**26) -> RowLog:
    log = RowLog(folder, most_bytes)
    assert all(log.append(each) is None for each in updates)
    return log


def steps(records: Records) -> list[int]:
    return [int(step) for step in records.steps]


@given(st.lists(st.integers(0, 4), max_size=12))
def test_records_of_any_batch_sizes_are_read_as_written(sizes: list[int]) -> None:
    updates = [update(step, n) for step, n in enumerate(sizes, 1)]
    with tempfile.TemporaryDirectory() as folder:
        log = written(Path(folder), *updates)
        records = log.read()
        log.close()
    assert steps(records) == list(range(1, len(sizes) + 1))
    for expected, actual in zip(updates, records.between(1, len(sizes)), strict=True):
        assert encode(actual) == encode(expected)
    for example in range(5):
        draws = [
            (example, each.step, each.sums[row].astype(np.float64) / each.targets[row])
            for each in updates
            for row in range(len(each.ids))
            if each.ids[row] == example and each.targets[row] and each.step < 9
        ]
        assert records.draws_of(np.array([example]), 9) == draws


def test_row_without_targets_has_no_mean_loss() -> None:
    rows = UpdateRows(1, 2.0, np.array([4, 5]), np.array([3.0, 0.0], np.float32), np.array([2.0, 0.0], np.float32))
    assert mean_losses(rows)[0] == 1.5 and np.isnan(mean_losses(rows)[1])


def test_oldest_steps_are_dropped_and_the_files_stay_within_their_bound(tmp_path: Path) -> None:
    size = len(encode(update(1)))
    log = written(tmp_path, *(update(step) for step in range(1, 101)), most_bytes=20 * size)
    kept = steps(log.read())
    assert kept == list(range(kept[0], 101)) and 10 < len(kept) <= 20
    assert sum(path.stat().st_size for path in (log.path, log.older_path)) <= 20 * size


@pytest.mark.parametrize("most_bytes", [2**20, 600])
def test_cut_drops_the_steps_after_a_checkpoint(tmp_path: Path, most_bytes: int) -> None:
    log = written(tmp_path, *(update(step) for step in range(1, 13)), most_bytes=most_bytes)
    kept = [step for step in steps(log.read()) if step <= 8]
    log.cut(8)
    assert steps(log.read()) == kept and kept[-1] == 8
    assert log.append(update(9)) is None
    assert steps(log.read()) == [*kept, 9]


def test_fork_gets_the_steps_until_its_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "fork").mkdir()
    log = written(tmp_path, *(update(step) for step in range(1, 13)), most_bytes=600)
    fork = RowLog(tmp_path / "fork")
    log.copy_until(8, fork)
    assert steps(fork.read()) == [step for step in steps(log.read()) if step <= 8]


@pytest.mark.parametrize("n_missing", [1, 30, len(encode(update(1))) - 1])
def test_torn_last_record_is_skipped_and_removed_by_resuming(tmp_path: Path, n_missing: int) -> None:
    log = written(tmp_path, update(1), update(2))
    log.close()
    log.path.write_bytes(log.path.read_bytes()[:-n_missing])
    assert steps(log.read()) == [1]
    log.cut(5)
    assert log.append(update(2)) is None
    assert steps(log.read()) == [1, 2]


@pytest.mark.parametrize("place", [0, 12, 40, 70])
def test_damage_is_reported_and_resuming_keeps_what_is_before(tmp_path: Path, place: int) -> None:
    log = written(tmp_path, update(1), update(2), update(3))
    log.close()
    content = bytearray(log.path.read_bytes())
    content[len(encode(update(1))) + place % len(encode(update(2)))] ^= 1
    log.path.write_bytes(content)
    with pytest.raises(RunError) as caught:
        log.read()
    assert caught.value.code == "damaged" and caught.value.problems[0].key == str(log.path)
    log.cut(3)
    assert steps(log.read()) == [1]


def test_reader_sees_each_step_once_while_the_files_change_places(tmp_path: Path) -> None:
    """A reader opens the newer file first; if it is moved meanwhile, it is found under the older name again."""
    log = written(tmp_path, update(1), update(2))
    log.older_path.hardlink_to(log.path)
    assert steps(log.read()) == [1, 2]
    assert all(a < b for a, b in pairwise(steps(log.read())))


def test_symlink_is_not_written_through(tmp_path: Path) -> None:
    target = tmp_path / "mine"
    target.write_text("x")
    log = RowLog(tmp_path)
    log.path.symlink_to(target)
    assert isinstance(log.append(update(1)), OSError) and target.read_text() == "x"

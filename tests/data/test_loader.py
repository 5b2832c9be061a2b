"""The loader: batches are a pure function of the settings and the step."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tui_lab.data.loader import Loader
from tui_lab.data.shuffle import Shuffle
from tui_lab.data.tasks.reverse import ReverseExamples
from tui_lab.data.tasks.text import TextWindows
from tui_lab.util.errors import DataError

modes: st.SearchStrategy[Shuffle] = st.sampled_from(("epoch", "once", "off"))


def examples(n: int) -> ReverseExamples:
    return ReverseExamples(np.arange(n), 4, 10)


@given(st.integers(1, 40), st.data(), modes, st.integers(0, 99))
def test_batch_is_a_function_of_settings_and_step(n: int, data: st.DataObject, mode: Shuffle, seed: int) -> None:
    size = data.draw(st.integers(1, n))
    steps = data.draw(st.lists(st.integers(0, 30), min_size=1, max_size=5))
    one, other = Loader(examples(n), size, seed, mode), Loader(examples(n), size, seed, mode)
    forward = {step: one.batch(step) for step in steps}
    for step in reversed(steps):
        again = other.batch(step)
        assert (again.x == forward[step].x).all() and (again.y == forward[step].y).all()
        assert again.ids.tolist() == forward[step].ids.tolist()


@given(st.integers(1, 40), st.data(), modes)
def test_epoch_has_every_example_once_even_across_batches(n: int, data: st.DataObject, mode: Shuffle) -> None:
    size = data.draw(st.integers(1, n))
    loader = Loader(examples(n), size, 0, mode)
    drawn = np.concatenate([loader.batch(step).ids for step in range(-(-2 * n // size))])
    assert sorted(drawn[:n].tolist()) == sorted(drawn[n : 2 * n].tolist()) == list(range(n))


def test_batch_of_too_many_tokens_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    length = examples(9).length
    monkeypatch.setattr("tui_lab.data.loader.MAX_BATCH_TOKENS", 3 * length)
    Loader(examples(9), 3, 0)
    with pytest.raises(DataError) as caught:
        Loader(examples(9), 4, 0)
    [problem] = caught.value.problems
    assert (problem.code, problem.key, problem.value) == ("too_large", "train.batch_size", 4)
    assert problem.allowed == "at most 3"
    monkeypatch.setattr("tui_lab.data.loader.MAX_BATCH_TOKENS", length - 1)
    with pytest.raises(DataError) as caught:
        Loader(examples(9), 1, 0)
    assert caught.value.problems[0].allowed == "at most 1"


def test_batch_has_its_epoch_and_position() -> None:
    batch = Loader(examples(10), 4, 0).batch(3)
    assert (batch.epoch, batch.position) == (1, 2)


def test_overfit_pins_the_first_examples() -> None:
    loader = Loader(examples(100), 16, 0, overfit=3)
    assert {int(i) for step in range(9) for i in loader.batch(step).ids} == {0, 1, 2}
    one = Loader(examples(100), 16, 0, overfit=1)
    assert one.batch(0).ids.tolist() == one.batch(77).ids.tolist() == [0]


def test_changed_batch_size_continues_from_the_examples_drawn() -> None:
    loader = Loader(examples(50), 4, 0)
    plain = np.concatenate([loader.batch(step).ids for step in range(12)])
    larger = loader.changed(3, batch_size=10)
    after = np.concatenate([loader.batch(0).ids, loader.batch(1).ids, loader.batch(2).ids, larger.batch(3).ids])
    assert after.tolist() == plain[:22].tolist()
    with pytest.raises(ValueError, match="before step 3"):
        larger.batch(2)


def test_pinning_and_unpinning_start_a_new_epoch() -> None:
    """20 draws are within the first epoch of 50; 16 more are exactly the second and third epoch of 8."""
    pinned = Loader(examples(50), 4, 0).changed(5, overfit=8)
    assert (pinned.batch(5).position, pinned.batch(5).epoch) == (0, 1)
    unpinned = pinned.changed(9, overfit=0)
    assert (unpinned.batch(9).position, unpinned.batch(9).epoch) == (0, 3)
    smaller = unpinned.changed(30, batch_size=2)
    again = smaller.changed(40, overfit=1).changed(50, overfit=0)
    assert [pinned.data_epoch_at(step) for step in (5, 7)] == [0, 1], "counted from the first epoch of these examples"
    assert [unpinned.batch(step).data_epoch for step in (9, 22)] == [1, 2], "those of the pinned ones do not count"
    assert again.data_epoch_at(50) == smaller.data_epoch_at(39) + 1, "the epoch that was not finished counts"
    assert (unpinned.from_step, unpinned.from_draw) == (9, 150)


def test_changed_order_continues_within_the_epoch() -> None:
    off = Loader(examples(50), 4, 0).changed(5, shuffle="off")
    assert off.batch(5).ids.tolist() == [20, 21, 22, 23] and off.batch(6).ids.tolist() == [24, 25, 26, 27]


def test_drawn_between_has_the_ids_of_the_batches() -> None:
    loader = Loader(examples(30), 4, 1)
    assert loader.drawn_between(2, 5).tolist() == [int(i) for step in range(2, 6) for i in loader.batch(step).ids]
    assert loader.drawn_between(3, 3).tolist() == loader.batch(3).ids.tolist()
    assert [loader.epoch_at(step) for step in (0, 7, 8, 15)] == [0, 0, 1, 2]


def test_batch_has_its_examples_offsets_and_order() -> None:
    windows = TextWindows(np.arange(100, dtype=np.uint16), length=4, stride=3, start=1000)
    batch = Loader(windows, 5, 2).batch(3)
    assert batch.step == 3 and batch.offsets is not None
    assert batch.offsets.tolist() == [1000 + 3 * i for i in batch.ids.tolist()]
    assert batch.x[:, 0].tolist() == [3 * i for i in batch.ids.tolist()] and (batch.y == batch.x + 1).all()
    assert batch.head == batch.order.head(batch.epoch)
    assert Loader(examples(10), 5, 2).batch(0).offsets is None


def test_batch_may_have_all_examples() -> None:
    assert Loader(examples(10), 10, 0).batch(0).ids.shape == (10,)
    assert Loader(examples(10), 2, 0, overfit=10).batch(0).ids.shape == (2,)
    assert Loader(examples(10), 16, 0, overfit=3).batch(0).ids.shape == (3,)


def test_batch_larger_than_the_training_part_is_refused() -> None:
    for key, arguments in (("train.batch_size", (11, 0)), ("data.overfit", (2, 11))):
        batch_size, overfit = arguments
        with pytest.raises(DataError) as caught:
            Loader(examples(10), batch_size, 0, overfit=overfit)
        [problem] = caught.value.problems
        assert (problem.code, problem.key, problem.value) == ("invalid", key, 11)

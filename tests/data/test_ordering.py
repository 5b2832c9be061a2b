import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.ordering import BLOCK, Order, Shuffle, hash_key, permute


@given(st.integers(1, 3000), st.integers(0, 2**64 - 1))
@settings(deadline=None)
def test_permute_is_a_bijection(n: int, key: int) -> None:
    assert sorted(permute(np.arange(n), n, key).tolist()) == list(range(n))


@pytest.mark.parametrize("n", [10**8, 10**12])
def test_only_what_is_asked_for_is_computed(n: int) -> None:
    tracemalloc.start()
    found = permute(np.arange(1000), n, 5)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(set(found.tolist())) == 1000
    assert found.max() > n // 2
    assert peak < 2**20


@pytest.mark.parametrize("n", [2, 3, 5, 17])
def test_every_image_is_about_as_likely(n: int) -> None:
    trials = 600 * n
    images = [int(permute(np.array([0]), n, hash_key(7, trial))[0]) for trial in range(trials)]
    counts = np.bincount(images, minlength=n)
    chi_square = float(((counts - 600) ** 2 / 600).sum())
    # Five standard deviations above the mean of chi-square with n - 1 degrees of freedom.
    assert chi_square < (n - 1) + 5 * np.sqrt(2 * (n - 1)) + 5


def test_epoch_reorders_once_repeats_off_counts() -> None:
    draws = np.arange(40)
    epoch, once, off = (Order(mode, 3, 20).draw(draws) for mode in ("epoch", "once", "off"))
    assert epoch[:20].tolist() != epoch[20:].tolist()
    assert sorted(epoch[:20].tolist()) == sorted(epoch[20:].tolist()) == list(range(20))
    assert once[:20].tolist() == once[20:].tolist() != list(range(20))
    assert off.tolist() == [*range(20), *range(20)]


def test_head_is_the_start_of_the_epochs_order() -> None:
    order = Order("epoch", 3, 20)
    assert list(order.head(1)) == order.draw(np.arange(20, 28)).tolist()


def test_seeds_give_different_orders() -> None:
    assert Order("epoch", 1, 50).head(0) != Order("epoch", 2, 50).head(0)


@given(st.integers(1, 9000), st.integers(0, 3 * BLOCK), st.integers(1, 70), st.sampled_from(["epoch", "once", "off"]))
@settings(deadline=None, max_examples=50)
def test_a_run_of_draws_is_the_draws_one_by_one(n: int, first: int, count: int, mode: Shuffle) -> None:
    order = Order(mode, 7, n)
    assert order.run(first, count).tolist() == order.draw(np.arange(first, first + count)).tolist()

"""The order of examples: a seeded bijection with the same values on every machine."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tui_lab.data.shuffle import BLOCK, Order, Shuffle, hash_key, mix, permute


@given(st.integers(1, 3000), st.integers(0, 2**64 - 1))
def test_permute_is_a_bijection(n: int, key: int) -> None:
    assert sorted(permute(np.arange(n), n, key).tolist()) == list(range(n))


@pytest.mark.parametrize("n", [10**8, 10**12])
def test_permute_computes_only_the_given_positions(n: int) -> None:
    tracemalloc.start()
    images = permute(np.arange(1000), n, 5)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(set(images.tolist())) == 1000
    assert images.max() > n // 2
    assert peak < 2**20


@pytest.mark.parametrize("n", [2, 3, pytest.param(5, marks=pytest.mark.slow)])
def test_every_image_of_every_position_is_equally_likely(n: int) -> None:
    trials = 1000 + 50 * n
    counts = np.zeros((n, n))
    for trial in range(trials):
        counts[np.arange(n), permute(np.arange(n), n, hash_key(7, trial))] += 1
    # For random permutations the table has (n - 1)² degrees of freedom, and this is their chi-square.
    chi_square = float(((counts - trials / n) ** 2).sum()) / (trials / n) * (n - 1) / n
    # Five standard deviations above its mean.
    assert chi_square < (n - 1) ** 2 + 5 * np.sqrt(2) * (n - 1) + 5


def test_shuffle_modes() -> None:
    draws = np.arange(40)
    epoch, once, off = (Order(mode, 3, 20).draw(draws) for mode in ("epoch", "once", "off"))
    assert epoch[:20].tolist() != epoch[20:].tolist()
    assert sorted(epoch[:20].tolist()) == sorted(epoch[20:].tolist()) == list(range(20))
    assert once[:20].tolist() == once[20:].tolist() != list(range(20))
    assert off.tolist() == [*range(20), *range(20)]


def test_head_is_the_start_of_the_order_of_an_epoch() -> None:
    order = Order("epoch", 3, 20)
    assert list(order.head(1)) == order.draw(np.arange(20, 28)).tolist()


def test_seeds_give_different_orders() -> None:
    assert Order("epoch", 1, 50).head(0) != Order("epoch", 2, 50).head(0)


@given(st.integers(1, 9000), st.integers(0, 3 * BLOCK), st.integers(1, 70), st.sampled_from(["epoch", "once", "off"]))
@settings(max_examples=50)
def test_slice_has_the_same_ids_as_single_draws(n: int, first: int, count: int, mode: Shuffle) -> None:
    order = Order(mode, 7, n)
    assert order.slice(first, count).tolist() == order.draw(np.arange(first, first + count)).tolist()


def test_mix_is_splitmix64() -> None:
    """The first five outputs of the published generator for the seed 1234567: it mixes seed, seed + γ, seed + 2γ …"""
    gamma = np.uint64(0x9E3779B97F4A7C15)
    states = np.uint64(1234567) + np.arange(5, dtype=np.uint64) * gamma
    assert mix(states).tolist() == [
        6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431, 16408922859458223821,
    ]  # fmt: skip


def test_hash_key_depends_on_every_part_and_on_their_order() -> None:
    keys = [hash_key(), hash_key(0), hash_key(0, 0), hash_key(1, 2), hash_key(2, 1), hash_key(1), hash_key(2)]
    assert len(set(keys)) == len(keys)
    assert hash_key(-1) == hash_key(2**64 - 1) and hash_key(2**64) == hash_key(0)


def test_order_is_the_same_on_every_machine_and_in_every_version() -> None:
    """Otherwise a run that a later version resumes would see other batches."""
    assert Order("epoch", 0, 100).head(0) == (53, 92, 3, 20, 48, 79, 26, 82)
    assert Order("epoch", 7, 10**6).head(3) == (
        270958, 864141, 559692, 534491, 227490, 43126, 611065, 171936,
    )  # fmt: skip
    # Also where the size of the Feistel network changes.
    assert Order("epoch", 5, 16).head(0, 16) == (5, 15, 13, 8, 2, 0, 4, 1, 6, 7, 9, 11, 3, 14, 12, 10)
    assert [Order("epoch", seed, 4).head(0) for seed in range(3)] == [(0, 1, 2, 3), (2, 0, 1, 3), (0, 2, 1, 3)]
    assert ["".join(map(str, Order("epoch", seed, 3).head(0))) for seed in range(6)] == [
        "012",
        "201",
        "021",
        "201",
        "201",
        "012",
    ]
    assert Order("once", 7, 10**6).head(3) == Order("epoch", 7, 10**6).head(0)


def test_head_and_epoch_of_small_and_single_orders() -> None:
    assert Order("off", 0, 3).head(5) == (0, 1, 2) and Order("off", 0, 30).head(0) == tuple(range(8))
    assert Order("epoch", 0, 30).head(0, 3) == Order("epoch", 0, 30).head(0)[:3]
    assert [Order("epoch", 0, 20).epoch_of(draw) for draw in (0, 19, 20, 39, 40)] == [0, 0, 1, 1, 2]
    assert Order("epoch", 5, 1).draw(np.arange(3)).tolist() == [0, 0, 0]

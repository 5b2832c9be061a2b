"""Copies in a text: planted ones are found, none is claimed in random text, and all pairs agree with brute force."""

import numpy as np
import numpy.typing as npt
import pytest

from tui_lab.core.examples.copies import N_GRAM, THRESHOLD, find_copies
from tui_lab.core.examples.measure import no_progress
from tui_lab.core.examples.ngrams import Wanted, hashes, occurrences

Tokens = npt.NDArray[np.int64]
L = 33


def random_text(n: int, n_vocab: int = 5000, seed: int = 0) -> Tokens:
    return np.random.default_rng(seed).integers(0, n_vocab, n)


def windows_of(text: Tokens) -> tuple[Tokens, Tokens]:
    """Windows that share no target, and where they begin."""
    starts = np.arange(0, len(text) - L + 1, L - 1)
    return text[starts[:, None] + np.arange(L)], starts


def grams(tokens: Tokens) -> set[tuple[int, ...]]:
    return {tuple(tokens[i : i + N_GRAM].tolist()) for i in range(len(tokens) - N_GRAM + 1)}


def similarity(one: Tokens, other: Tokens) -> float:
    a, b = grams(one), grams(other)
    return len(a & b) / len(a | b)


def test_hashes_are_equal_where_the_tokens_are() -> None:
    text = random_text(400, n_vocab=3)
    for n in (1, 2, 7):
        values = hashes(text, n).tolist()
        runs = [tuple(text[i : i + n].tolist()) for i in range(len(text) - n + 1)]
        assert len(values) == len(runs)
        assert len(set(values)) == len(set(runs)) == len(set(zip(values, runs, strict=True)))
    assert len(hashes(text[:3], 4)) == 0


def test_occurrences_cross_the_edges_of_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tui_lab.core.examples.ngrams.BLOCK", 7)
    text = random_text(100, n_vocab=2)
    wanted = Wanted(hashes(text[20:24], 4))
    places = [at for hits in occurrences(text, 4, wanted, no_progress, "") for at in hits.at.tolist()]
    assert places == [i for i in range(97) if (text[i : i + 4] == text[20:24]).all()]


def test_random_text_has_no_copies() -> None:
    text = random_text(20_000)
    windows, starts = windows_of(text)
    assert all(not copies.n_exact and not copies.nearest for copies in find_copies(text, windows, starts))


def test_planted_copies_are_found_wherever_they_begin() -> None:
    text = random_text(20_000)
    text[10_007 : 10_007 + L] = text[640 : 640 + L]  # Window 20, exactly.
    changed = text[1280 : 1280 + L].copy()  # Window 40, with a token changed, one left out and one at the end.
    changed[3] = 1
    text[15_001 : 15_001 + L] = np.append(np.delete(changed, 28), 2)
    windows, starts = windows_of(text)
    copies = find_copies(text, windows, starts)
    assert copies[20].n_exact == 1 and [copy.at for copy in copies[20].nearest] == [10_007]
    assert copies[20].nearest[0].exact and copies[20].nearest[0].similarity == 1.0
    assert copies[40].n_exact == 0 and copies[40].n_near in (0, 1)
    assert [copy.at for copy in find_copies(text, windows, starts, threshold=0.5)[40].nearest] == [15_001]
    others = [w for w, each in enumerate(copies) if each.nearest and w not in (20, 40)]
    assert all(abs(int(starts[w]) - at) < L for w in others for at in (10_007, 15_001)[:1]), others


def test_overlapping_windows_are_no_copies_of_each_other() -> None:
    """In a text with period 8, a window has the same tokens 8 tokens later; the first copy shares no target with it."""
    text = np.tile(np.arange(8), 40)
    windows, starts = windows_of(text)
    copies = find_copies(text, windows[:1], starts[:1])[0]
    places = [at for at in range(len(text) - L + 1) if at % 8 == 0 and at >= L - 1]
    assert copies.n_exact == len(places)
    assert [copy.at for copy in copies.nearest][:3] == places[:3]


def test_each_pair_above_the_threshold_is_found() -> None:
    """Against Jaccard indices of Python sets, in a text of mutated copies of a few windows."""
    rng = np.random.default_rng(1)
    originals = random_text(6 * L, seed=2).reshape(6, L)
    rows = []
    for number in range(60):
        row = originals[number % 6].copy()
        row[rng.integers(0, L, rng.integers(0, 4))] = rng.integers(0, 5000)
        rows += [row, rng.integers(0, 5000, L - 1)]
    text = np.concatenate(rows)
    starts = np.arange(60) * (2 * L - 1)
    windows = text[starts[:, None] + np.arange(L)]
    copies = find_copies(text, windows, starts)
    n_pairs = 0
    for w, window in enumerate(windows):
        expected = {int(at) for at in starts if at != starts[w] and similarity(window, text[at : at + L]) >= THRESHOLD}
        n_pairs += len(expected)
        exact = {int(at) for at in starts if at != starts[w] and (window == text[at : at + L]).all()}
        assert copies[w].n_exact == len(exact)
        listed = {copy.at: copy.similarity for copy in copies[w].nearest}
        if len(exact) <= 8:
            assert listed.keys() == expected
        for at, value in listed.items():
            assert value == pytest.approx(similarity(window, text[at : at + L]))
    assert n_pairs > 80


def test_windows_of_another_text_may_stand_at_the_same_place() -> None:
    """Without `own`, nothing is left out: validation windows in a training part that has them."""
    text = random_text(2000)
    windows, _ = windows_of(text)
    assert all(copies.n_exact == 1 for copies in find_copies(text, windows, None))

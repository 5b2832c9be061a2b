"""Attention maps equal the softmax of the scores, and the summary of heads is right."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.core.tiny import tiny, trainer
from tests.core.user_code.test_external_model import FILE
from tui_lab.core.inference.attention import AttentionMaps, Floats, heads_of, pattern, sharpness
from tui_lab.core.inference.example import attention_maps
from tui_lab.core.training.model_factory import build_model
from tui_lab.core.user_code import trust
from tui_lab.core.user_code.external_model import ExternalModel
from tui_lab.data.dataset import IGNORED

ALL = np.ones(6, dtype=bool)


def looked(*overrides: str, most: int = 2**24) -> tuple[AttentionMaps, torch.nn.Module, npt.NDArray[np.int64]]:
    training = trainer("model.n_layers=2", *overrides)
    training.model.eval()
    x = training.loader.batch(0).x[0]
    maps = attention_maps(training.model, x, most)
    assert maps is not None
    return maps, training.model, x


def random_map(seed: int, T: int = 6) -> Floats:
    """Rows that sum to one, nothing above the diagonal."""
    weights = np.tril(np.random.default_rng(seed).random((T, T)) ** 4)
    rows: Floats = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    return rows


def only(places: npt.NDArray[np.int64]) -> Floats:
    return np.eye(len(places), dtype=np.float32)[places]


def test_maps_equal_the_softmax_of_the_scores() -> None:
    maps, model, x = looked()
    assert maps.weights.shape == (2, 2, 5, 5) and (maps.length, maps.block) == (5, 1)
    p = {name: tensor.detach().numpy().astype(np.float64) for name, tensor in model.named_parameters()}
    e = p["W_E.weight"][x] + p["W_P.weight"][: len(x)]  # [T, D]
    for head in range(2):
        rows = slice(4 * head, 4 * head + 4)
        q, k = (e @ p[f"layers.0.attention.{name}.weight"][rows].T for name in ("W_Q", "W_K"))  # [T, d]
        scores = np.exp(q @ k.T / 2.0) * np.tri(len(x))
        np.testing.assert_allclose(maps.weights[0, head], scores / scores.sum(axis=1, keepdims=True), atol=1e-6)
    np.testing.assert_allclose(maps.weights.sum(axis=-1), 1.0, atol=1e-5)


def test_maps_share_no_memory_with_the_model() -> None:
    maps, model, _ = looked()
    before = maps.weights.copy()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert (maps.weights == before).all() and not maps.weights.flags.writeable


@pytest.mark.parametrize("most", [36, 16, 4])
def test_maps_of_long_rows_are_in_blocks_of_their_largest_weights(most: int) -> None:
    whole, _, _ = looked()
    maps, _, _ = looked(most=most)
    assert maps.block > 1 and maps.weights.size <= most and maps.length == 5
    for (i, j), _ in np.ndenumerate(maps.weights[0, 0]):
        part = whole.weights[:, :, i * maps.block : (i + 1) * maps.block, j * maps.block : (j + 1) * maps.block]
        np.testing.assert_array_equal(maps.weights[:, :, i, j], part.max(axis=(2, 3)))
    assert heads_of(maps, np.ones(5, dtype=bool)) == []


def test_missing_mask_is_visible() -> None:
    assert not looked()[0].sees_later
    assert looked('faults=["no_mask"]')[0].sees_later


def test_user_model_has_no_maps(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(FILE, "utf-8")
    trust.allow(str(tmp_path / "mine.py"))
    model = build_model(tiny(f"model.source={tmp_path / 'mine.py'}:Mine"), 5)
    assert isinstance(model, ExternalModel) and attention_maps(model.eval(), np.zeros(5, dtype=np.int64)) is None


@given(st.integers(0, 2**32 - 1), st.lists(st.booleans(), min_size=6, max_size=6))
def test_sharpness_is_0_for_even_weights_and_1_for_one_position(seed: int, chosen: list[bool]) -> None:
    queries = np.array(chosen)
    assert 0.0 <= sharpness(random_map(seed), queries) <= 1.0
    even = np.tril(np.ones((6, 6), dtype=np.float32))
    assert sharpness(even / even.sum(axis=1, keepdims=True), queries) == pytest.approx(0.0, abs=1e-6)
    one = only(np.random.default_rng(seed).integers(0, np.arange(6) + 1))
    assert sharpness(one, queries) == pytest.approx(float(queries[1:].any()))


@pytest.mark.parametrize(
    ("places", "name"),
    [
        (np.arange(6), "itself"),
        (np.arange(6) - 1, "the token before"),
        (np.zeros(6, dtype=np.int64), "the first token"),
        (5 - np.arange(6), "the mirrored place"),
    ],
)
def test_pattern_names_where_a_head_looks(places: npt.NDArray[np.int64], name: str) -> None:
    assert pattern(only(places), np.arange(6) >= 3) == (name, 1.0)
    assert pattern(0.4 * only(places) + 0.6 * only((places + 2) % 6), np.arange(6) >= 3)[0] != name


def test_heads_are_sorted_by_sharpness_over_queries_with_a_target() -> None:
    even = np.tril(np.ones((6, 6), dtype=np.float32))
    even /= even.sum(axis=1, keepdims=True)
    late = even.copy()
    late[4:] = only(5 - np.arange(6))[4:]
    maps = AttentionMaps(np.stack([np.stack([even, late])]), 6)
    first, second = heads_of(maps, np.arange(6) >= 4)
    assert (first.layer, first.head, first.sharpness, first.pattern) == (0, 1, 1.0, "the mirrored place")
    assert (second.head, second.pattern) == (0, "")
    assert heads_of(maps, np.zeros(6, dtype=bool)) == heads_of(maps, ALL), "where none has a target all count"


@pytest.mark.slow
def test_trained_reverse_attends_along_the_anti_diagonal() -> None:
    training = trainer(
        "model.d_model=32",
        "model.d_head=16",
        "model.n_layers=2",
        "model.d_ff=64",
        "data.n_digits=10",
        "data.length=4",
        "model.context=7",
        "train.steps=1500",
        "train.batch_size=64",
        "optim.lr=0.003",
    )
    list(training.events())
    training.model.eval()
    batch = training.loader.batch(0)
    shares = []
    for x, y in zip(batch.x[:16], batch.y[:16], strict=True):
        maps = attention_maps(training.model, x)
        assert maps is not None
        shares.append(max(h.share for h in heads_of(maps, y != IGNORED) if h.pattern == "the mirrored place"))
    assert np.mean(shares) > 0.8

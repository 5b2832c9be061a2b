"""The cells of a batch agree with F.cross_entropy for every shape that it takes."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from tui_lab.core.watch.batch import cells as cells_module
from tui_lab.core.watch.batch.cells import Cells, batch_cells
from tui_lab.data.dataset import IGNORED

B, T, V = 3, 5, 7


def batch(n_positions: int = T, ignore_index: int = -100) -> tuple[Tensor, Tensor]:
    """Logits [B, n, V] and targets [B, n], some of them ignored."""
    generator = torch.Generator().manual_seed(n_positions)
    logits = 3 * torch.randn(B, n_positions, V, generator=generator)
    targets = torch.randint(V, (B, n_positions), generator=generator)
    targets[0, :2] = ignore_index
    return logits, targets


def flat(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    return logits.flatten(0, 1), targets.flatten()


def cells_of(logits: Tensor, targets: Tensor, max_rows: int = 8, x_shape: tuple[int, ...] = (B, T)) -> Cells:
    cells = batch_cells(logits, targets, -100, x_shape, max_rows)
    assert cells is not None
    return cells


def check(cells: Cells, logits: Tensor, targets: Tensor) -> None:
    """Against logits [R, n, V] and targets [R, n]; a missing last position is an ignored one."""
    R, n = targets.shape
    expected = F.cross_entropy(logits.transpose(1, 2), targets, reduction="none")
    ignored = targets == -100
    np.testing.assert_allclose(cells.losses[:, :n][~ignored], expected[~ignored], rtol=1e-5, atol=1e-6)
    assert np.isnan(cells.losses[:, :n][ignored]).all() and np.isnan(cells.losses[:, n:]).all()
    assert (cells.y[:, :n] == np.where(ignored, IGNORED, targets)).all() and (cells.y[:, n:] == IGNORED).all()
    top = logits.softmax(-1).topk(5)
    assert (cells.top[:, :n] == top.indices.numpy()).all()
    np.testing.assert_allclose(cells.probabilities[:, :n], top.values, rtol=1e-5)
    assert cells.y.shape == cells.losses.shape == (R, T) and cells.top.shape == cells.probabilities.shape == (R, T, 5)
    assert cells.y.dtype == cells.top.dtype == np.int64 and cells.losses.dtype == np.float32


class TestShapes:
    def test_flat(self) -> None:
        logits, targets = batch()
        check(cells_of(*flat(logits, targets)), logits, targets)

    def test_classes_in_the_second_dimension(self) -> None:
        logits, targets = batch()
        check(cells_of(logits.transpose(1, 2), targets), logits, targets)

    def test_targets_shifted_inside_the_model(self) -> None:
        logits, targets = batch(T - 1)
        check(cells_of(*flat(logits, targets)), logits, targets)
        check(cells_of(logits.transpose(1, 2), targets), logits, targets)

    def test_one_row_without_a_batch(self) -> None:
        logits, targets = batch()
        check(cells_of(logits[1], targets[1], x_shape=(T,)), logits[1:2], targets[1:2])

    @pytest.mark.parametrize("max_rows", [1, 2, 3])
    def test_number_of_rows_is_limited(self, max_rows: int) -> None:
        logits, targets = batch()
        check(cells_of(*flat(logits, targets), max_rows=max_rows), logits[:max_rows], targets[:max_rows])

    def test_large_rows_are_measured_in_chunks_and_at_least_one(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(cells_module, "MAX_LOGITS", 2 * T * V - 1)
        monkeypatch.setattr(cells_module, "MAX_CHUNK", 2 * V)
        logits, targets = batch()
        cells = cells_of(*flat(logits, targets))
        assert cells.y.shape == (B, T) and cells.losses.shape == (1, T)
        check(Cells(cells.y[:1], cells.losses, cells.top, cells.probabilities), logits[:1], targets[:1])
        monkeypatch.setattr(cells_module, "MAX_LOGITS", 1)
        assert cells_of(*flat(logits, targets)).losses.shape == (1, T)

    @pytest.mark.parametrize(
        ("logits", "targets", "x_shape"),
        [
            ((B, V), (B,), (B, T)),
            ((B, V), (B,), (B, 2)),
            ((B, V), (B,), (B, 1)),
            ((B * T, V), (B * T,), (B, 3, 8, 8)),
            ((B * T, V), (B * T,), ()),
            ((B * T, V), (B * T,), (B, T + 4)),
            ((B * T, V), (B * T,), (0, T)),
            ((11, V), (11,), (B, T)),
            ((B, V, 4, 4), (B, 4, 4), (B, 3, 4, 4)),
            ((V,), (), (T,)),
        ],
    )
    def test_other_shapes_have_no_cells(
        self, logits: tuple[int, ...], targets: tuple[int, ...], x_shape: tuple[int, ...]
    ) -> None:
        assert batch_cells(torch.zeros(logits), torch.zeros(targets, dtype=torch.long), -100, x_shape, 8) is None

    def test_class_probabilities_have_no_cells(self) -> None:
        probabilities = torch.full((B * T, V), 1 / V)
        assert batch_cells(torch.zeros(B * T, V), probabilities, -100, (B, T), 8) is None


class TestTensors:
    def test_ignore_index_of_the_script(self) -> None:
        logits, targets = batch(ignore_index=0)
        cells = batch_cells(*flat(logits, targets), 0, (B, T), 8)
        assert cells is not None and ((cells.y == IGNORED) == (targets == 0).numpy()).all()

    def test_bfloat16_is_measured_in_float32(self) -> None:
        logits, targets = batch()
        logits = logits.bfloat16()
        with torch.autocast("cpu", torch.bfloat16):
            cells = cells_of(*flat(logits, targets))
        expected = F.cross_entropy(logits.float().transpose(1, 2), targets, reduction="none")
        np.testing.assert_allclose(cells.losses, expected.masked_fill(targets == -100, torch.nan), rtol=1e-5)

    def test_targets_of_32_bits(self) -> None:
        logits, targets = batch()
        check(cells_of(*flat(logits, targets.int())), logits, targets)

    def test_script_is_not_changed(self) -> None:
        logits, targets = flat(*batch())
        logits.requires_grad_()
        copies = logits.detach().clone(), targets.clone()
        state = torch.get_rng_state()
        cells_of(logits, targets)
        assert torch.equal(logits, copies[0]) and torch.equal(targets, copies[1]) and logits.grad is None
        assert torch.equal(torch.get_rng_state(), state) and torch.is_grad_enabled()
        torch.autograd.grad(F.cross_entropy(logits, targets), logits)  # Raises if a tensor was changed.

    def test_fewer_classes_than_k(self) -> None:
        cells = batch_cells(torch.zeros(B * T, 2), torch.zeros(B * T, dtype=torch.long), -100, (B, T), 8)
        assert cells is not None and cells.top.shape == (B, T, 2)


@given(st.integers(1, 4), st.integers(2, 6), st.integers(2, 9), st.booleans(), st.integers(1, 40))
def test_sum_of_the_cells_is_the_loss(B: int, T: int, V: int, is_flat: bool, chunk: int) -> None:
    logits = torch.randn(B, T, V, generator=torch.Generator().manual_seed(0), dtype=torch.float32)
    targets = torch.arange(B * T).reshape(B, T) % V
    whole = F.cross_entropy(logits.transpose(1, 2), targets, ignore_index=1, reduction="sum")
    arguments = flat(logits, targets) if is_flat else (logits.transpose(1, 2), targets)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cells_module, "MAX_CHUNK", chunk)
        cells = batch_cells(*arguments, 1, (B, T), B)
    assert cells is not None and np.nansum(cells.losses) == pytest.approx(float(whole), rel=1e-4)

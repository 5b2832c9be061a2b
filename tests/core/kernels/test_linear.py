"""The linear layer with BLAS and with oneDNN: the same products and gradients."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from tui_lab.core.kernels import linear as matmul
from tui_lab.core.kernels.linear import Engine, Kernels, linear, onednn_available

SIZES = st.integers(1, 40)


def gradients(engine: Engine, *leaves: Tensor) -> list[Tensor]:
    x, weight, bias, g = (leaf.clone() for leaf in leaves)
    wanted = [leaf.requires_grad_() for leaf in (x, weight, bias)]
    out = linear(x, weight, bias, engine)
    return [out.detach(), *torch.autograd.grad(out, wanted, g)]


def test_onednn_is_in_this_build() -> None:
    """The pinned torch has it on x86 and ARM; without it the tests below would compare BLAS with itself."""
    assert onednn_available()


@settings(deadline=None)
@given(batch=SIZES, rows=SIZES, width=SIZES, wide=SIZES)
def test_products_and_gradients_of_both_libraries_agree(batch: int, rows: int, width: int, wide: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(matmul, "SMALLEST", 0)
        leaves = (
            torch.randn(batch, rows, width),
            torch.randn(wide, width),
            torch.randn(wide),
            torch.randn(batch, rows, wide),
        )
        for ours, theirs in zip(gradients("onednn", *leaves), gradients("blas", *leaves), strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def test_gradient_with_strides_of_zero_is_right() -> None:
    x, weight = torch.randn(512, 256), torch.randn(256, 256, requires_grad=True)
    linear(x, weight, None, "onednn").sum().backward()  # type: ignore[no-untyped-call]
    assert weight.grad is not None
    torch.testing.assert_close(weight.grad, x.sum(0).expand(256, 256), atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_dtypes_other_than_float32_use_torch(dtype: torch.dtype) -> None:
    x, weight = torch.randn(512, 256, dtype=dtype), torch.randn(256, 256, dtype=dtype)
    assert torch.equal(linear(x, weight, None, "onednn"), F.linear(x, weight))


def test_kernels_without_rows_are_an_error() -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        Kernels(head_rows=0)

"""The loss: plain and chunked, with BLAS and oneDNN, equal to its definition; exact matches."""

from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from tui_lab.core.config.schema import ModelConfig
from tui_lab.core.kernels.chunked_cross_entropy import cross_entropy_sum
from tui_lab.core.kernels.head_loss import head_loss_sum
from tui_lab.core.kernels.linear import Engine, Kernels
from tui_lab.core.model import Transformer
from tui_lab.core.training.loss import exact_matches
from tui_lab.core.user_code.external_model import logits_of

CONFIG = ModelConfig(d_model=8, n_layers=1, n_heads=2, d_head=4, d_ff=8, context=7)


def reference(model: Transformer, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """-log softmax at each target that is not ignored, one by one."""
    logits = model(x)
    losses = [
        logits[b, t].logsumexp(0) - logits[b, t, y[b, t]]
        for b in range(len(x))
        for t in range(x.shape[1])
        if y[b, t] != -1
    ]
    return torch.stack(losses).sum()


@pytest.mark.parametrize("n_vocab", [11, 5000])
@pytest.mark.parametrize("chunk", [3, 128])
@pytest.mark.parametrize("engine", ["blas", "onednn"])
def test_loss_and_gradients_equal_the_definition(n_vocab: int, chunk: int, engine: Engine) -> None:
    model = Transformer(CONFIG, n_vocab)
    torch.nn.init.normal_(model.head.bias)  # It begins at zero, where nobody would miss it.
    model.set_kernels(Kernels(engine, chunk))
    x, y = torch.arange(14).view(2, 7) % 11, torch.arange(1, 15).view(2, 7) % 11
    y[0, :3] = y[1, 6] = -1
    grads = []
    for loss in (model.loss_sum(x, y), reference(model, x, y)):
        # A training run divides, too: by the targets that count.
        (loss / 7).backward()  # type: ignore[no-untyped-call]
        grads.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
        model.zero_grad()
    torch.testing.assert_close(model.loss_sum(x, y), reference(model, x, y))
    assert grads[0].keys() == grads[1].keys() == dict(model.named_parameters()).keys()
    for name in grads[0]:
        torch.testing.assert_close(grads[0][name], grads[1][name], msg=name)
    with torch.no_grad():
        torch.testing.assert_close(model.loss_sum(x, y), reference(model, x, y))


@pytest.mark.parametrize("engine", ["blas", "onednn"])
@pytest.mark.parametrize("n_vocab", [11, 5000])
def test_loss_is_zero_if_all_targets_are_ignored(n_vocab: int, engine: Engine) -> None:
    model, x = Transformer(CONFIG, n_vocab), torch.zeros(2, 7, dtype=torch.int64)
    model.set_kernels(Kernels(engine))
    loss = model.loss_sum(x, torch.full_like(x, -1))
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == 0.0
    assert all(p.grad is None or not p.grad.any() for p in model.parameters())


def test_row_matches_if_every_counted_target_is_the_likeliest_token() -> None:
    y = torch.tensor([[-1, 2, 3], [-1, 2, 3], [1, -1, -1]])
    logits = F.one_hot(torch.tensor([[0, 2, 3], [0, 2, 1], [1, 0, 0]]), 5).float()
    assert exact_matches(logits, y).tolist() == [True, False, True]


def test_loss_of_a_very_unlikely_target_is_finite_and_exact() -> None:
    """exp(-200) is not a float32, so the loss is computed from the logits."""
    h, weight, bias = torch.eye(3), torch.zeros(5000, 3), torch.randn(5000)
    weight[7, 1], targets = -200.0, torch.tensor([7, 7, -1])
    ours, theirs = ([leaf.clone().requires_grad_() for leaf in (h, weight, bias)] for _ in range(2))
    loss = head_loss_sum(ours[0], ours[1], ours[2], targets, Kernels("onednn", 2))
    loss.backward()  # type: ignore[no-untyped-call]
    expected = F.cross_entropy(F.linear(theirs[0], theirs[1], theirs[2]), targets, ignore_index=-1, reduction="sum")
    expected.backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(loss, expected)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one.grad, other.grad)


def test_loss_of_nan_is_nan() -> None:
    h, weight = torch.full((2, 3), torch.nan, requires_grad=True), torch.zeros(5000, 3, requires_grad=True)
    loss = head_loss_sum(h, weight, torch.zeros(5000, requires_grad=True), torch.tensor([1, 2]), Kernels("onednn"))
    assert loss.isnan()


class Widest(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Keeps how many rows the largest tensor had of those that were as wide as the vocabulary, and who multiplied."""

    def __init__(self, n_vocab: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.n_vocab, self.rows, self.onednn = n_vocab, 0, False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.onednn |= "mkldnn" in str(func)
        for tensor in out if isinstance(out, tuple | list) else (out,):
            if isinstance(tensor, Tensor) and tensor.dim() and tensor.shape[-1] == self.n_vocab:
                self.rows = max(self.rows, tensor.numel() // self.n_vocab)
        return out


@pytest.mark.parametrize("learning", [True, False])
@pytest.mark.parametrize("engine", ["blas", "onednn"])
def test_logits_of_a_large_vocabulary_are_never_all_in_memory(engine: Engine, learning: bool) -> None:
    """40 rows in chunks of 8: beside those only the weights' gradient, of d_model + 1 rows, is as wide."""
    h, weight, bias = torch.randn(40, 3), torch.randn(4096, 3), torch.randn(4096)
    leaves = [leaf.requires_grad_(learning) for leaf in (h, weight, bias)]
    widest, kept = Widest(4096), list[int]()

    def keep(saved: Tensor) -> Tensor:
        kept.append(saved.numel() // 4096 if saved.shape[-1:] == (4096,) else 0)
        return saved

    hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda saved: saved)
    with widest, hooks, torch.set_grad_enabled(learning):
        loss = head_loss_sum(leaves[0], leaves[1], leaves[2], torch.arange(40), Kernels(engine, 8))
        if learning:
            loss.backward()  # type: ignore[no-untyped-call]
    assert widest.rows <= 8 and sum(kept) <= 8
    assert widest.onednn == (engine == "onednn")


def test_older_torch_recomputes_the_logits_of_each_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before 2.13 torch has no linear_cross_entropy; loss and gradients stay the same, 8 rows of logits at a time."""
    leaves = [torch.randn(*shape, requires_grad=True) for shape in ((40, 3), (4096, 3), (4096,))]
    h, weight, bias = leaves
    targets = torch.arange(40).where(torch.arange(40) % 5 > 0, -1)
    expected = F.cross_entropy(F.linear(h, weight, bias), targets, ignore_index=-1, reduction="sum")
    expected_gradients = torch.autograd.grad(expected, leaves)
    monkeypatch.delattr(F, "linear_cross_entropy")
    with Widest(4096) as widest:
        loss = head_loss_sum(h, weight, bias, targets, Kernels("blas", 8))
        gradients = torch.autograd.grad(loss, leaves)
    torch.testing.assert_close((loss, *gradients), (expected, *expected_gradients))
    assert widest.rows <= 8


def test_logits_are_taken_from_tensors_tuples_and_attributes() -> None:
    logits, x = torch.randn(2, 3, 5), torch.zeros(2, 3, dtype=torch.int64)
    for output in (logits, (logits, "cache"), [logits], SimpleNamespace(logits=logits)):
        model = Mock(return_value=output)
        assert logits_of(model, x) is logits and model.call_args.args[0] is x


def test_cross_entropy_ignores_the_given_target() -> None:
    logits, y = torch.randn(1, 3, 5), torch.tensor([[0, 1, 4]])
    expected = -logits.log_softmax(-1)
    torch.testing.assert_close(cross_entropy_sum(logits, y, ignored=4), expected[0, 0, 0] + expected[0, 1, 1])
    torch.testing.assert_close(cross_entropy_sum(logits, torch.tensor([[0, -1, -1]])), expected[0, 0, 0])

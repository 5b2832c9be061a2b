import pytest
import torch
from torch.nn import functional as F

from core import objective
from core.config import ModelConfig
from core.model import Transformer
from core.objective import exact_matches, loss_sum

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
def test_loss_and_gradients_equal_the_definition_on_the_plain_and_the_chunked_path(
    n_vocab: int, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objective, "CHUNK_ROWS", chunk)
    model = Transformer(CONFIG, n_vocab)
    x, y = torch.arange(14).view(2, 7) % 11, torch.arange(1, 15).view(2, 7) % 11
    y[0, :3] = y[1, 6] = -1
    grads = []
    for loss in (loss_sum(model, x, y), reference(model, x, y)):
        loss.backward()  # type: ignore[no-untyped-call]
        grads.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
        model.zero_grad()
    torch.testing.assert_close(loss_sum(model, x, y), reference(model, x, y))
    assert grads[0].keys() == grads[1].keys() == dict(model.named_parameters()).keys()
    for name in grads[0]:
        torch.testing.assert_close(grads[0][name], grads[1][name], msg=name)
    with torch.no_grad():
        torch.testing.assert_close(loss_sum(model, x, y), reference(model, x, y))


@pytest.mark.parametrize("n_vocab", [11, 5000])
def test_all_targets_ignored_is_a_loss_of_zero(n_vocab: int) -> None:
    model, x = Transformer(CONFIG, n_vocab), torch.zeros(2, 7, dtype=torch.int64)
    loss = loss_sum(model, x, torch.full_like(x, -1))
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == 0.0
    assert all(p.grad is None or not p.grad.any() for p in model.parameters())


def test_a_row_matches_when_every_counted_target_is_the_likeliest_token() -> None:
    y = torch.tensor([[-1, 2, 3], [-1, 2, 3], [1, -1, -1]])
    logits = F.one_hot(torch.tensor([[0, 2, 3], [0, 2, 1], [1, 0, 0]]), 5).float()
    assert exact_matches(logits, y).tolist() == [True, False, True]

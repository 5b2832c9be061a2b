"""Padding that the script's tokenizer names, and that the model's attention_mask should hide."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from tests.core.doctor.checks.programs import ROWS, T, V, cross_entropy, pairs_case, results
from tui_lab.core.doctor.checks.model import padding_effect

PADDING = 0
SEEN = [("finding", "padding_attended")]


class Averaging(nn.Module):
    """Logits of the mean over all earlier tokens, or over all if it is not causal, that the mask does not hide."""

    def __init__(self, *, causal: bool = True) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.tokens, self.head = nn.Embedding(V, 16), nn.Linear(16, V)
        self.causal = causal

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        seen = mask[:, None, :].float().expand(-1, input_ids.shape[1], -1)
        seen = seen.tril() if self.causal else seen
        mean = (seen @ self.tokens(input_ids)) / seen.sum(dim=-1, keepdim=True).clamp(min=1)
        logits: Tensor = self.head(mean)
        return logits


def found(*, side: str, masked: bool, causal: bool = True, named: bool = True) -> list[tuple[str, str]]:
    """Return what the check says about rows that are padded at a side, of which the tokenizer may name the padding."""

    def batch(step: int) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(step)
        x = torch.randint(1, V, (ROWS, T), generator=generator)
        n = torch.randint(1, T - 4, (ROWS, 1), generator=generator)
        x = x.masked_fill(torch.arange(T) < n, PADDING)
        x = x if side == "start" else x.flip(1)
        return {"input_ids": x, "labels": x.roll(-1, 1)} | ({"attention_mask": (x != PADDING).long()} if masked else {})

    target = pairs_case(
        Averaging(causal=causal),
        batches=batch,
        forward=lambda model, batch: model(batch["input_ids"], batch.get("attention_mask")),
        loss=lambda model, batch: cross_entropy(
            model(batch["input_ids"], batch.get("attention_mask")), batch["labels"]
        ),
        causal=causal,
    )
    return results(padding_effect.check, replace(target, paddings=frozenset({PADDING} if named else ())))


def test_padding_before_rows_that_no_mask_hides_is_found() -> None:
    assert found(side="start", masked=False) == SEEN
    assert found(side="end", masked=False, causal=False) == SEEN


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("side", ["start", "end"])
def test_padding_that_the_mask_hides_is_healthy(side: str, *, causal: bool) -> None:
    assert found(side=side, masked=True, causal=causal) == []


def test_padding_that_no_token_sees_or_that_nothing_names_is_no_finding() -> None:
    assert SEEN not in (found(side="end", masked=False), found(side="start", masked=False, named=False))

"""Findings name the line of the user that they are about: in the model, or where a loss function is called."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.core.doctor.script.training import examined
from tui_lab.core.doctor.findings import Finding, FindingCode
from tui_lab.core.doctor.locations import located
from tui_lab.core.doctor.loop.reading import line_of

V, T, ROWS = 7, 6, 4


class Scored(nn.Module):
    """Attention over tokens, and class scores [B, V]."""

    def __init__(self, *, normalizes: bool) -> None:
        super().__init__()
        self.tokens = nn.Embedding(V, 8)
        self.head = nn.Linear(8, V)
        self.normalizes = normalizes

    def forward(self, x: Tensor) -> Tensor:
        e = self.tokens(x)
        mixed = F.scaled_dot_product_attention(e, e, e)
        scores: Tensor = self.head(mixed.mean(dim=1))
        return torch.softmax(scores, dim=-1) if self.normalizes else scores


def loss(model: nn.Module, step: int) -> Tensor:
    x = torch.randint(V, (ROWS, T), generator=torch.Generator().manual_seed(step))
    outputs = model(x)
    return F.cross_entropy(outputs, x[:, 0])


@pytest.mark.parametrize(
    ("code", "normalizes", "words"),
    [
        ("double_softmax", True, "return torch.softmax("),
        ("double_softmax", False, "return F.cross_entropy("),  # A softmax outside of the model.
        ("summed_loss", False, "return F.cross_entropy("),
        ("gradient_ascent", False, ".backward()"),
        ("padding_attended", False, "F.scaled_dot_product_attention("),
    ],
)
def test_line_of_a_finding(code: FindingCode, words: str, *, normalizes: bool) -> None:
    target = examined(Scored(normalizes=normalizes), loss)
    assert target.record is not None
    at_backward = "" if code == "padding_attended" else line_of(target.record.updates[0], "backward")
    finding = Finding(code=code, title="", evidence="", why="", fix="", location=at_backward)
    file, _, line = located(finding, target).location.rpartition(":")
    assert words in Path(file).read_text("utf-8").splitlines()[int(line) - 1]

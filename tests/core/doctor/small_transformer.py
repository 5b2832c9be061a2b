"""A small decoder with one mistake at a time, for the tests of the checks of attention, causality and positions."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tui_lab import Case
from tui_lab.core.doctor.program.case_target import target_from_case
from tui_lab.core.doctor.program.target import Target

V, T, C, H = 13, 12, 32, 4


class Attention(nn.Module):
    """Multi-head attention; `fault` is the name of its mistake, or ""."""

    def __init__(self, fault: str) -> None:
        super().__init__()
        self.fault = fault
        self.qkv = nn.Linear(C, 3 * C)
        self.out = nn.Linear(C, C)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (self.split(part) for part in self.qkv(x).chunk(3, dim=-1))
        q, k = self.rotated(q, "queries"), self.rotated(k, "keys")
        scores = self.scaled(q @ k.transpose(-2, -1))
        weights = self.weights(scores)
        heads = weights @ v
        heads = heads if self.fault == "heads_merged" else heads.transpose(1, 2)
        projected: Tensor = self.out(heads.reshape(x.shape))
        return projected

    def split(self, projected: Tensor) -> Tensor:
        B, n, _ = projected.shape
        if self.fault == "heads_split":
            return projected.reshape(B, H, n, C // H)
        return projected.view(B, n, H, C // H).transpose(1, 2)

    def rotated(self, x: Tensor, part: str) -> Tensor:
        if not self.fault.startswith("rotary") or self.fault == "rotary_on_queries" and part == "keys":
            return x
        over_heads = self.fault == "rotary_over_heads"
        places = torch.arange(x.shape[1 if over_heads else 2])
        angles = (places * 0 if self.fault == "rotary_same_angle" else places)[:, None] * torch.tensor([1.0, 0.3])
        angles = torch.cat([angles] * (x.shape[-1] // 2), dim=-1)[:, : x.shape[-1]]
        angles = angles[:, None] if over_heads else angles
        half = x.shape[-1] // 2
        turned = torch.cat([-x[..., half:], x[..., :half]], dim=-1)
        return x * angles.cos() + turned * angles.sin()

    def scaled(self, scores: Tensor) -> Tensor:
        d = C // H
        if self.fault == "unscaled":
            return scores
        return scores * math.sqrt(d) if self.fault == "multiplied" else scores / math.sqrt(d)

    def weights(self, scores: Tensor) -> Tensor:
        n = scores.shape[-1]
        future = torch.ones(n, n, dtype=torch.bool).triu(2 if self.fault == "late_mask" else 1)
        if self.fault == "inverted_mask":
            future = future.T
        if self.fault in ("no_mask", f"no_mask_in_{'training' if self.training else 'evaluation'}"):
            future = torch.zeros_like(future)
        if self.fault == "mask_after_softmax":
            return scores.softmax(dim=-1).masked_fill(future, 0.0)
        dim = {"softmax_over_queries": -2, "softmax_over_heads": 1}.get(self.fault, -1)
        return F.softmax(scores.masked_fill(future, -1e9), dim=dim)


class Block(nn.Module):
    def __init__(self, fault: str) -> None:
        super().__init__()
        self.fault = fault
        self.attention = Attention(fault)
        self.norm1 = nn.BatchNorm1d(T) if fault == "batch_norm" else nn.LayerNorm(C)
        self.norm2 = nn.LayerNorm([T, C] if fault == "norm_over_positions" else C)
        self.mlp = nn.Sequential(nn.Linear(C, 2 * C), nn.GELU(), nn.Linear(2 * C, C))

    def forward(self, x: Tensor) -> Tensor:
        attended = self.attention(self.norm1(x))
        x = attended if self.fault == "no_residual" else x + attended
        fed: Tensor = self.mlp(self.norm2(x))
        return fed if self.fault == "no_residual_mlp" else x + fed


class Decoder(nn.Module):
    """ids [B, T] → logits [B, T, V], with learned positions unless the mistake is one of positions."""

    def __init__(self, fault: str = "", layers: int = 2) -> None:
        super().__init__()
        self.fault = fault
        self.tokens = nn.Embedding(V, C)
        self.places = nn.Parameter(torch.randn(T, C))
        self.blocks = nn.ModuleList(Block(fault) for _ in range(layers))
        self.norm, self.head = nn.LayerNorm(C), nn.Linear(C, V)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.placed(self.tokens(ids))
        if self.fault == "mean_over_row":
            x = x - x.mean(dim=1, keepdim=True)
        if self.fault == "view_for_transpose":
            x = x.reshape(x.shape[1], x.shape[0], C).transpose(0, 1)
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.head(self.norm(x))
        return logits

    def placed(self, e: Tensor) -> Tensor:
        if self.fault == "positions_over_batch":
            return e + self.places[: len(e)][:, None]
        if self.fault == "positions_of_zero":
            return e + self.places[torch.zeros(e.shape[1], dtype=torch.long)]
        if self.fault == "no_positions" or self.fault.startswith("rotary"):
            return e
        return e + self.places[: e.shape[1]]


def batch(step: int) -> tuple[Tensor, Tensor]:
    tokens = torch.randint(0, V, (4, T + 1), generator=torch.Generator().manual_seed(step))
    return tokens[:, :-1], tokens[:, 1:]


def target_of(model: nn.Module | str, **fields: Any) -> Target:
    """Return the target of a model, or of a decoder with the mistake of that name."""
    if isinstance(model, str):
        torch.manual_seed(0)
        model = Decoder(model)
    values: dict[str, Any] = {"batches": batch, "rule": "next_token"} | fields
    return target_from_case(Case(model, **values))

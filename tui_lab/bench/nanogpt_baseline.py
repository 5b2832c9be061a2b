"""The journal's transformer and its training loop, written in nanoGPT's style, as a baseline.

One matrix for q, k and v, torch's fused attention, full logits into `cross_entropy`, and torch's default optimizer. It
computes the same function as tui_lab.core.model, so that its losses agree up to rounding.
"""

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tui_lab.core.config.schema import ModelConfig
from tui_lab.core.kernels.precision import Precision, autocast
from tui_lab.core.model import Layer, Transformer


class Block(nn.Module):
    """A post-norm transformer layer: x [B, T, D] → [B, T, D]."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        inner = config.n_heads * config.d_head
        self.n_heads = config.n_heads
        self.d_head = config.d_head
        self.dropout = config.dropout
        self.c_attn = nn.Linear(config.d_model, 3 * inner, bias=False)
        self.c_proj = nn.Linear(inner, config.d_model, bias=False)
        self.ln_1 = nn.LayerNorm(config.d_model)
        self.c_fc = nn.Linear(config.d_model, config.d_ff)
        self.c_out = nn.Linear(config.d_ff, config.d_model)
        self.ln_2 = nn.LayerNorm(config.d_model)

    def forward(self, x: Tensor) -> Tensor:
        B, T, _ = x.shape
        q, k, v = (
            part.view(B, T, self.n_heads, self.d_head).transpose(1, 2) for part in self.c_attn(x).chunk(3, dim=2)
        )
        rate = self.dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(q, k, v, dropout_p=rate, is_causal=True)  # [B, H, T, d]
        y = self.c_proj(y.transpose(1, 2).reshape(B, T, -1))  # [B, T, D]
        x = self.ln_1(x + F.dropout(y, self.dropout, self.training))
        y = self.c_out(F.relu(self.c_fc(x)))
        out: Tensor = self.ln_2(x + F.dropout(y, self.dropout, self.training))
        return out


class EagerGPT(nn.Module):
    """(ids [B, T], targets [B, T]) → mean loss; without targets → the logits of the last position [B, 1, V]."""

    def __init__(self, config: ModelConfig, n_vocab: int) -> None:
        super().__init__()
        self.context = config.context
        self.dropout = config.dropout
        self.wte = nn.Embedding(n_vocab, config.d_model)
        self.wpe = nn.Embedding(config.context, config.d_model)
        self.h = nn.ModuleList(Block(config) for _ in range(config.n_layers))
        self.lm_head = nn.Linear(config.d_model, n_vocab)

    def hidden(self, ids: Tensor) -> Tensor:
        """Compute the last layer's output: ids [B, T] → [B, T, D]."""
        positions = torch.arange(ids.shape[1], device=ids.device)
        x = F.dropout(self.wte(ids) + self.wpe(positions), self.dropout, self.training)
        for block in self.h:
            x = block(x)
        return x

    def forward(self, ids: Tensor, targets: Tensor | None = None) -> Tensor:
        x = self.hidden(ids)
        if targets is None:
            last: Tensor = self.lm_head(x[:, [-1]])
            return last
        logits = self.lm_head(x)  # [B, T, V]
        return F.cross_entropy(logits.view(-1, logits.shape[-1]), targets.reshape(-1), ignore_index=-1)

    @torch.no_grad()
    def take_weights(self, ours: Transformer) -> "EagerGPT":
        """Copy the weights of `ours`, so that both compute the same function."""
        for name, module in (("wte", ours.W_E), ("wpe", ours.W_P), ("lm_head", ours.head)):
            getattr(self, name).load_state_dict(module.state_dict())
        for block, layer in zip(cast(list[Block], self.h), cast(list[Layer], ours.layers), strict=True):
            attention = layer.attention
            block.c_attn.weight.copy_(torch.cat([attention.W_Q.weight, attention.W_K.weight, attention.W_V.weight]))
            pairs = {
                "c_proj": attention.W_O,
                "ln_1": layer.norm1,
                "c_fc": layer.W_1,
                "c_out": layer.W_2,
                "ln_2": layer.norm2,
            }
            for name, other in pairs.items():
                getattr(block, name).load_state_dict(other.state_dict())
        return self


class AllLogits(nn.Module):
    """The same model for evaluation: ids [B, T] → logits [B, T, V]."""

    def __init__(self, model: EagerGPT) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor) -> Tensor:
        logits: Tensor = self.model.lm_head(self.model.hidden(ids))
        return logits


@dataclass
class EagerLoop:
    """nanoGPT's training step: the loss of a batch under autocast, its gradients, the optimizer's step."""

    model: nn.Module
    lr: float
    precision: Precision = "fp32"

    def __post_init__(self) -> None:
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=self.lr)

    def step(self, x: Tensor, y: Tensor) -> float:
        """Take one step on x, y [B, T] and return the loss before it."""
        with autocast(self.precision, x.device):
            loss = self.model(x, y)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        return float(loss.item())


@torch.no_grad()
def generate_uncached(model: EagerGPT, ids: Tensor, new_tokens: int) -> Tensor:
    """Generate greedily as nanoGPT does, computing the whole context again for each token.

    ids [1, T] → [1, T + new_tokens].
    """
    for _ in range(new_tokens):
        logits = model(ids[:, -model.context :])[:, -1]  # [1, V]
        ids = torch.cat([ids, logits.argmax(dim=-1, keepdim=True)], dim=1)
    return ids

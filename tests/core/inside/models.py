"""Small models with weights far from their initial values, so that every part of them matters."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.core.tiny import tiny
from tui_lab.core.model import Transformer
from tui_lab.core.user_code.external_model import ExternalModel

V = 11
T = 6


@torch.no_grad()
def shaken(model: nn.Module, seed: int = 0) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.add_(0.4 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def transformer(*overrides: str) -> Transformer:
    """Our model with 2 layers of 3 heads, all sizes different."""
    shape = ("model.n_layers=2", "model.n_heads=3", "model.d_head=5", "model.d_ff=10", f"model.context={T}")
    model = Transformer(tiny(*shape, *overrides).model, V)
    shaken(model)
    return model


class Mlp(nn.Module):
    def __init__(self, d: int) -> None:
        super().__init__()
        self.c_fc = nn.Linear(d, 3 * d)
        self.c_proj = nn.Linear(3 * d, d)

    def forward(self, x: Tensor) -> Tensor:
        added: Tensor = self.c_proj(F.gelu(self.c_fc(x)))
        return added


class CausalAttention(nn.Module):
    def __init__(self, d: int, n_head: int) -> None:
        super().__init__()
        self.n_head = n_head
        self.c_attn = nn.Linear(d, 3 * d)
        self.c_proj = nn.Linear(d, d)

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        B, T, D = x.shape
        q, k, v = (p.view(B, T, self.n_head, -1).transpose(1, 2) for p in self.c_attn(x).chunk(3, dim=-1))
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.c_proj(mixed.transpose(1, 2).reshape(B, T, D)), None


class Block(nn.Module):
    """A pre-LN block; with `scaled` it adds half of its attention, which a look from outside must not overlook."""

    def __init__(self, d: int, n_head: int, scaled: bool) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(d)
        self.attn = CausalAttention(d, n_head)
        self.ln_2 = nn.LayerNorm(d)
        self.mlp = Mlp(d)
        self.factor = 0.5 if scaled else 1.0

    def forward(self, x: Tensor) -> tuple[Tensor, str]:
        x = x + self.factor * self.attn(self.ln_1(x))[0]
        return x + self.mlp(self.ln_2(x)), "something else"


class OpenBlock(Block):
    """A block that calls the modules of its feed-forward itself, as in minGPT."""

    def __init__(self, d: int, n_head: int) -> None:
        super().__init__(d, n_head, scaled=False)
        self.modules_of_mlp = nn.ModuleDict({"c_fc": self.mlp.c_fc, "c_proj": self.mlp.c_proj, "drop": nn.Dropout()})
        del self.mlp

    def forward(self, x: Tensor) -> tuple[Tensor, str]:
        x = x + self.attn(self.ln_1(x))[0]
        mlp = self.modules_of_mlp
        return x + mlp["drop"](mlp["c_proj"](F.gelu(mlp["c_fc"](self.ln_2(x))))), "something else"


class FlatMlp(Mlp):
    """Computes all positions of all rows as one list, as in OPT: [B·T, D]."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.flatten(0, 1))


class FlatBlock(Block):
    def __init__(self, d: int, n_head: int) -> None:
        super().__init__(d, n_head, scaled=False)
        self.mlp = FlatMlp(d)

    def forward(self, x: Tensor) -> tuple[Tensor, str]:
        x = x + self.attn(self.ln_1(x))[0]
        return x + self.mlp(self.ln_2(x)).view(x.shape), "something else"


class Gpt(nn.Module):
    """A decoder in the style of GPT-2. tied: its head is the embedding's matrix, applied without a module."""

    def __init__(self, d: int = 8, n_head: int = 2, n_layer: int = 2, tied: bool = False, scaled: bool = False) -> None:
        super().__init__()
        self.wte = nn.Embedding(V, d)
        self.wpe = nn.Embedding(T, d)
        self.h = nn.ModuleList(Block(d, n_head, scaled) for _ in range(n_layer))
        self.ln_f = nn.LayerNorm(d)
        self.lm_head = None if tied else nn.Linear(d, V, bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.wte(ids) + self.wpe(torch.arange(ids.shape[1]))
        for block in self.h:
            x = block(x)[0]
        x = self.ln_f(x)
        logits: Tensor = F.linear(x, self.wte.weight) if self.lm_head is None else self.lm_head(x)
        return logits


def external(model: nn.Module) -> ExternalModel:
    """`model` as the trainer has it when model.source names it."""
    wrapped = ExternalModel(model, tiny().model, V)
    shaken(wrapped)
    return wrapped

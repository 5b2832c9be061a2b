"""A character model with grouped-query attention (fewer key and value heads than query heads)."""

import random
import sys
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

FIXED = "--fixed" in sys.argv

torch.manual_seed(0)
torch.set_num_threads(1)
rng = random.Random(0)


@dataclass
class Config:
    context: int = 48
    width: int = 64
    heads: int = 4
    kv_heads: int = 2
    layers: int = 2
    batch: int = 16
    steps: int = 200
    lr: float = 3e-3


cfg = Config()
STEMS = "walk talk jump call paint open clean play".split()
SUFFIXES = ["s", "ed", "ing", "er"]
text = " ".join(rng.choice(STEMS) + rng.choice(SUFFIXES) for _ in range(6000))
alphabet = sorted(set(text))
data = torch.tensor([alphabet.index(c) for c in text])


class GroupedAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.head_dim = cfg.width // cfg.heads
        self.q = nn.Linear(cfg.width, cfg.width, bias=False)
        self.k = nn.Linear(cfg.width, cfg.kv_heads * self.head_dim, bias=False)
        self.v = nn.Linear(cfg.width, cfg.kv_heads * self.head_dim, bias=False)
        self.o = nn.Linear(cfg.width, cfg.width, bias=False)

    def split(self, x, heads):
        batch, length, _ = x.shape
        if FIXED:
            return x.view(batch, length, heads, self.head_dim).transpose(1, 2)
        return x.view(batch, heads, length, self.head_dim)

    def forward(self, x):
        q = self.split(self.q(x), cfg.heads)
        k, v = (
            self.split(projection(x), cfg.kv_heads).repeat_interleave(cfg.heads // cfg.kv_heads, dim=1)
            for projection in (self.k, self.v)
        )
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.o(y.transpose(1, 2).reshape(x.shape))


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1, self.norm2 = nn.RMSNorm(cfg.width), nn.RMSNorm(cfg.width)
        self.attention = GroupedAttention()
        self.mlp = nn.Sequential(nn.Linear(cfg.width, 3 * cfg.width), nn.SiLU(), nn.Linear(3 * cfg.width, cfg.width))

    def forward(self, x):
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(len(alphabet), cfg.width)
        self.position = nn.Embedding(cfg.context, cfg.width)
        self.layers = nn.Sequential(*[Layer() for _ in range(cfg.layers)])
        self.norm = nn.RMSNorm(cfg.width)
        self.head = nn.Linear(cfg.width, len(alphabet), bias=False)

    def forward(self, ids):
        x = self.embed(ids) + self.position.weight[: ids.shape[1]]
        return self.head(self.norm(self.layers(x)))


model = Model()
optimizer = torch.optim.AdamW(model.parameters(), lr=cfg.lr)
for step in range(cfg.steps):
    starts = torch.randint(len(data) - cfg.context - 1, (cfg.batch,)).tolist()
    inputs = torch.stack([data[s : s + cfg.context] for s in starts])
    targets = torch.stack([data[s + 1 : s + cfg.context + 1] for s in starts])
    loss = F.cross_entropy(model(inputs).transpose(1, 2), targets)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 20 == 0 or step == cfg.steps - 1:
        print(f"step {step:3d}  loss {loss.item():.3f}")

model.eval()
ids = data[None, :12]
with torch.no_grad():
    while ids.shape[1] < cfg.context:
        ids = torch.cat([ids, torch.multinomial(model(ids)[:, -1].softmax(-1), 1)], dim=1)
print("".join(alphabet[i] for i in ids[0].tolist()))

"""Train a llama-like model with rotary position embeddings on dates."""

import random
import sys

import torch
import torch.nn.functional as F
from torch import nn

FIXED = "--fixed" in sys.argv

torch.manual_seed(0)
torch.set_num_threads(1)
random.seed(0)

MONTHS = "jan feb mar apr may jun jul aug sep oct nov dec".split()


def date_line():
    month = random.randrange(12)
    day, year = random.randint(1, 28), random.randint(1990, 2029)
    return f"{year}-{month + 1:02d}-{day:02d} is {day} {MONTHS[month]} {year}"


CHARS = sorted(set("".join(date_line() for _ in range(2000))) | {"\n"})
CONTEXT, WIDTH, HEADS, LAYERS = 26, 64, 4, 2
HEAD = WIDTH // HEADS


def rotate(x, base=10000.0):
    """Rotate pairs of features by an angle that grows with the position, which is the last axis but one."""
    positions = torch.arange(x.shape[-2])
    frequencies = base ** (-torch.arange(0, HEAD, 2) / HEAD)
    angles = positions[:, None] * frequencies
    cos, sin = torch.cat([angles.cos()] * 2, dim=-1), torch.cat([angles.sin()] * 2, dim=-1)
    half1, half2 = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-half2, half1], dim=-1) * sin


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.wq, self.wk, self.wv, self.wo = (nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(4))

    def forward(self, x):
        batch, length, _ = x.shape
        q, k, v = (w(x).view(batch, length, HEADS, HEAD) for w in (self.wq, self.wk, self.wv))
        if FIXED:
            q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
            q, k = rotate(q), rotate(k)
        else:
            q, k = rotate(q), rotate(k)
            q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.wo(out.transpose(1, 2).reshape(batch, length, WIDTH))


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention_norm, self.mlp_norm = nn.RMSNorm(WIDTH), nn.RMSNorm(WIDTH)
        self.attention = Attention()
        self.gate, self.up = nn.Linear(WIDTH, 128, bias=False), nn.Linear(WIDTH, 128, bias=False)
        self.down = nn.Linear(128, WIDTH, bias=False)

    def forward(self, x):
        x = x + self.attention(self.attention_norm(x))
        h = self.mlp_norm(x)
        return x + self.down(F.silu(self.gate(h)) * self.up(h))


class Llama(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(len(CHARS), WIDTH)
        self.blocks = nn.Sequential(*[Block() for _ in range(LAYERS)])
        self.norm = nn.RMSNorm(WIDTH)
        self.head = nn.Linear(WIDTH, len(CHARS), bias=False)

    def forward(self, ids):
        return self.head(self.norm(self.blocks(self.embed(ids))))


def batch(size):
    lines = [date_line().ljust(CONTEXT, "\n") for _ in range(size)]
    return torch.tensor([[CHARS.index(c) for c in line] for line in lines])


model = Llama()
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
for step in range(200):
    ids = batch(24)
    loss = F.cross_entropy(model(ids[:, :-1]).transpose(1, 2), ids[:, 1:])
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    if step % 20 == 0 or step == 199:
        print(f"step {step:3d}  loss {loss.item():.3f}")

ids = batch(1)[:, :14]
model.eval()
with torch.no_grad():
    while ids.shape[1] < CONTEXT:
        ids = torch.cat([ids, model(ids)[:, -1:].argmax(-1)], dim=1)
print("".join(CHARS[i] for i in ids[0].tolist()).strip())

"""A two-layer classifier with an attention of its own: which of two markers comes first in the row?"""

import sys

import torch
import torch.nn as nn
import torch.nn.functional as F

FIXED = "--fixed" in sys.argv
torch.manual_seed(0)
torch.set_num_threads(1)

VOCAB, LENGTH, DIM, HEADS = 24, 20, 64, 2
FIRST, SECOND = 1, 2


def make_batch(n):
    """Rows of noise with both markers somewhere; the label says which one is on the left."""
    tokens = torch.randint(3, VOCAB, (n, LENGTH))
    places = torch.rand(n, LENGTH).argsort(dim=1)[:, :2].sort(dim=1).values
    label = torch.randint(0, 2, (n,))
    rows = torch.arange(n)
    tokens[rows, places[:, 0]] = torch.where(label == 1, FIRST, SECOND)
    tokens[rows, places[:, 1]] = torch.where(label == 1, SECOND, FIRST)
    return tokens, label


class Attention(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.heads = heads
        self.head_dim = dim // heads
        self.scale = self.head_dim**-0.5
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, x):
        B, T, C = x.shape
        q, k, v = self.qkv(x).view(B, T, 3, self.heads, self.head_dim).permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(-2, -1)
        scores = scores * self.scale if FIXED else scores / self.scale
        x = scores.softmax(dim=-1) @ v
        return self.out(x.transpose(1, 2).reshape(B, T, C))


class Layer(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = Attention(dim, heads)
        self.mlp = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))

    def forward(self, x):
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.tokens = nn.Embedding(VOCAB, DIM)
        self.positions = nn.Parameter(torch.randn(LENGTH, DIM) * 0.5)
        self.layers = nn.Sequential(Layer(DIM, HEADS), Layer(DIM, HEADS))
        self.norm = nn.LayerNorm(DIM)
        self.head = nn.Linear(DIM, 2)

    def forward(self, tokens):
        x = self.layers(self.tokens(tokens) + self.positions)
        return self.head(self.norm(x).mean(dim=1))


model = Classifier()
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
for step in range(300):
    tokens, label = make_batch(48)
    loss = F.cross_entropy(model(tokens), label)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 50 == 0 or step == 299:
        print(f"step {step:3d}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    tokens, label = make_batch(500)
    print(f"accuracy {(model(tokens).argmax(-1) == label).float().mean():.3f}")

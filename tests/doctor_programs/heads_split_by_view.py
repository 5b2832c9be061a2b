"""Read the letter at the asked place: a text encoder with a multi-head attention written out by hand."""

import sys

import torch
import torch.nn as nn
import torch.nn.functional as F

FIXED = "--fixed" in sys.argv
torch.manual_seed(5)
torch.set_num_threads(1)

LETTERS, LENGTH = 10, 15
VOCAB = LETTERS + LENGTH


def sample(n):
    """A row of letters and then a pointer: the class is the letter that stands where the pointer says."""
    letters = torch.randint(0, LETTERS, (n, LENGTH))
    asked = torch.randint(0, LENGTH, (n, 1))
    return torch.cat([letters, asked + LETTERS], dim=1), letters.gather(1, asked).squeeze(1)


class MultiHeadAttention(nn.Module):
    def __init__(self, d_model, n_heads):
        super().__init__()
        self.n_heads, self.d_head = n_heads, d_model // n_heads
        self.fc_q, self.fc_k, self.fc_v = (nn.Linear(d_model, d_model) for _ in range(3))
        self.fc_out = nn.Linear(d_model, d_model)

    def split(self, x):
        n, length, _ = x.shape
        if FIXED:
            return x.view(n, length, self.n_heads, self.d_head).transpose(1, 2)
        return x.view(n, self.n_heads, length, self.d_head)

    def forward(self, x):
        q, k, v = self.split(self.fc_q(x)), self.split(self.fc_k(x)), self.split(self.fc_v(x))
        weights = torch.softmax(torch.matmul(q, k.transpose(-1, -2)) / self.d_head**0.5, dim=-1)
        context = torch.matmul(weights, v)
        context = context.transpose(1, 2).reshape(x.shape) if FIXED else context.reshape(x.shape)
        return self.fc_out(context)


class EncoderLayer(nn.Module):
    def __init__(self, d_model, n_heads):
        super().__init__()
        self.attention = MultiHeadAttention(d_model, n_heads)
        self.ffn = nn.Sequential(nn.Linear(d_model, 2 * d_model), nn.ReLU(), nn.Linear(2 * d_model, d_model))
        self.norm1, self.norm2 = nn.LayerNorm(d_model), nn.LayerNorm(d_model)

    def forward(self, x):
        x = self.norm1(x + self.attention(x))
        return self.norm2(x + self.ffn(x))


class Encoder(nn.Module):
    def __init__(self, d_model=64, n_heads=4, n_layers=2):
        super().__init__()
        self.embedding = nn.Embedding(VOCAB, d_model)
        self.position = nn.Parameter(0.3 * torch.randn(LENGTH + 1, d_model))
        self.layers = nn.Sequential(*(EncoderLayer(d_model, n_heads) for _ in range(n_layers)))
        self.fc = nn.Linear(d_model, LETTERS)

    def forward(self, tokens):
        return self.fc(self.layers(self.embedding(tokens) + self.position)[:, -1])


model = Encoder()
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
for step in range(161):
    tokens, label = sample(64)
    loss = F.cross_entropy(model(tokens), label)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 40 == 0:
        print(f"step {step}: loss {loss.item():.3f}")

model.eval()
with torch.no_grad():
    tokens, label = sample(1000)
    print(f"test accuracy {(model(tokens).argmax(1) == label).float().mean():.3f}")

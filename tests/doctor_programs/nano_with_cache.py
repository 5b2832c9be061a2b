"""A nanoGPT-like model with a key-value cache for sampling."""

import random
import sys

import torch
import torch.nn as nn
from torch.nn import functional as F

FIXED = "--fixed" in sys.argv

torch.manual_seed(1337)
torch.set_num_threads(1)
rng = random.Random(1337)

words = "king queen castle dragon river mountain shadow silver crown winter".split()
text = " ".join(rng.choice(words) for _ in range(6000))
chars = sorted(set(text))
stoi = {c: i for i, c in enumerate(chars)}
data = torch.tensor([stoi[c] for c in text])

block_size, batch_size, n_embd, n_head, n_layer = 48, 24, 64, 4, 2
max_iters = 200


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(n_embd, 3 * n_embd)
        self.proj = nn.Linear(n_embd, n_embd)

    def forward(self, x, cache=None):
        B, T, C = x.shape
        q, k, v = (t.view(B, T, n_head, C // n_head).transpose(1, 2) for t in self.qkv(x).split(C, dim=2))
        if cache is not None:
            if cache:
                k, v = torch.cat([cache["k"], k], dim=2), torch.cat([cache["v"], v], dim=2)
            cache["k"], cache["v"] = k, v
        y = F.scaled_dot_product_attention(q, k, v, is_causal=T > 1)
        return self.proj(y.transpose(1, 2).reshape(B, T, C))


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.ln1, self.ln2 = nn.LayerNorm(n_embd), nn.LayerNorm(n_embd)
        self.attn = Attention()
        self.mlp = nn.Sequential(nn.Linear(n_embd, 4 * n_embd), nn.GELU(), nn.Linear(4 * n_embd, n_embd))

    def forward(self, x, cache=None):
        x = x + self.attn(self.ln1(x), cache)
        return x + self.mlp(self.ln2(x))


class GPT(nn.Module):
    def __init__(self):
        super().__init__()
        self.wte = nn.Embedding(len(chars), n_embd)
        self.wpe = nn.Embedding(block_size, n_embd)
        self.blocks = nn.ModuleList(Block() for _ in range(n_layer))
        self.ln_f = nn.LayerNorm(n_embd)
        self.head = nn.Linear(n_embd, len(chars))

    def forward(self, idx, caches=None):
        past = caches[0]["k"].shape[2] if caches and caches[0] else 0
        start = past if FIXED else 0
        x = self.wte(idx) + self.wpe(torch.arange(start, start + idx.shape[1]))
        for i, block in enumerate(self.blocks):
            x = block(x, caches[i] if caches is not None else None)
        return self.head(self.ln_f(x))

    @torch.no_grad()
    def sample(self, count):
        self.eval()
        idx = torch.full((count, 1), stoi[" "])
        caches = [{} for _ in range(n_layer)]
        token = idx
        for _ in range(block_size - 1):
            probs = F.softmax(self(token, caches)[:, -1], dim=-1)
            token = torch.multinomial(probs, 1)
            idx = torch.cat([idx, token], dim=1)
        self.train()
        return ["".join(chars[i] for i in row) for row in idx.tolist()]


model = GPT()
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
for it in range(max_iters + 1):
    ix = torch.randint(len(data) - block_size - 1, (batch_size,)).tolist()
    xb = torch.stack([data[i : i + block_size] for i in ix])
    yb = torch.stack([data[i + 1 : i + 1 + block_size] for i in ix])
    loss = F.cross_entropy(model(xb).flatten(0, 1), yb.flatten())
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    if it % 50 == 0:
        complete = [w for line in model.sample(16) for w in line.split()[:-1]]
        real = sum(w in words for w in complete) / max(1, len(complete))
        print(f"iter {it}: loss {loss.item():.3f}, sampled words that exist: {100 * real:.0f}%")
print(model.sample(1)[0])

"""GPT with a key-value cache: train on counting rows, then generate token by token."""

import sys

import torch
import torch.nn as nn
import torch.nn.functional as F

FIXED = "--fixed" in sys.argv
torch.manual_seed(41)
torch.set_num_threads(1)

VOCAB, LENGTH, DIM, HEADS = 16, 24, 64, 4


def rows(n):
    """Four random tokens, which then repeat for ever."""
    return torch.randint(0, VOCAB, (n, 4)).repeat(1, LENGTH // 4 + 1)[:, : LENGTH + 1]


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv, self.out = nn.Linear(DIM, 3 * DIM), nn.Linear(DIM, DIM)

    def forward(self, x, past):
        b, t, _ = x.shape
        q, k, v = self.qkv(x).view(b, t, 3, HEADS, DIM // HEADS).permute(2, 0, 3, 1, 4)
        if past is not None:
            k, v = torch.cat([past[0], k], dim=2), torch.cat([past[1], v], dim=2)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=past is None)
        return self.out(y.transpose(1, 2).reshape(b, t, DIM)), (k, v)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention, self.ln1, self.ln2 = Attention(), nn.LayerNorm(DIM), nn.LayerNorm(DIM)
        self.mlp = nn.Sequential(nn.Linear(DIM, 2 * DIM), nn.GELU(), nn.Linear(2 * DIM, DIM))

    def forward(self, x, past):
        y, present = self.attention(self.ln1(x), past)
        x = x + y
        return x + self.mlp(self.ln2(x)), present


class GPT(nn.Module):
    def __init__(self):
        super().__init__()
        self.tokens, self.places = nn.Embedding(VOCAB, DIM), nn.Embedding(LENGTH, DIM)
        self.blocks = nn.ModuleList([Block(), Block()])
        self.norm, self.head = nn.LayerNorm(DIM), nn.Linear(DIM, VOCAB)

    def forward(self, ids, cache=None):
        start = cache[0][0].size(2) if FIXED and cache is not None else 0
        x = self.tokens(ids) + self.places(torch.arange(start, start + ids.size(1)))
        presents = []
        for i, block in enumerate(self.blocks):
            x, present = block(x, None if cache is None else cache[i])
            presents.append(present)
        return self.head(self.norm(x)), presents

    @torch.no_grad()
    def generate(self, ids, n):
        logits, cache = self(ids)
        for _ in range(n):
            token = logits[:, -1].argmax(-1, keepdim=True)
            ids = torch.cat([ids, token], dim=1)
            logits, cache = self(token, cache)
        return ids


model = GPT()
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
for step in range(1, 181):
    batch = rows(32)
    logits, _ = model(batch[:, :-1])
    loss = F.cross_entropy(logits[:, 4:].flatten(0, 1), batch[:, 5:].flatten())
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    if step % 30 == 0:
        print(f"step {step} loss {loss.item():.4f}")

model.eval()
batch = rows(100)
generated = model.generate(batch[:, :8], LENGTH - 9)
print(f"generated tokens right: {(generated == batch[:, : LENGTH - 1])[:, 8:].float().mean():.3f}")

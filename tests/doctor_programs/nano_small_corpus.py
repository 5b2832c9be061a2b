"""A nanoGPT-like script for a very small corpus, with dropout and a regular look at the validation loss."""

import random
import sys

import torch
import torch.nn as nn
from torch.nn import functional as F

FIXED = "--fixed" in sys.argv

batch_size = 16
block_size = 24
max_iters = 300
eval_interval = 50
eval_iters = 8
learning_rate = 3e-3
n_embd = 64
n_head = 4
n_layer = 2
dropout = 0.3

torch.manual_seed(1337)
torch.set_num_threads(1)
rng = random.Random(1337)

syllables = "ba de ki lo mu na pe ri so tu va zo".split()
words = ["".join(rng.choices(syllables, k=rng.randint(1, 3))) for _ in range(24)]
text = " ".join(rng.choice(words) for _ in range(560))
chars = sorted(set(text))
encode = {c: i for i, c in enumerate(chars)}
data = torch.tensor([encode[c] for c in text])
n = int(0.25 * len(data))
train_data, val_data = data[:n], data[n:]


def get_batch(split):
    source = train_data if split == "train" else val_data
    ix = torch.randint(len(source) - block_size, (batch_size,))
    x = torch.stack([source[i : i + block_size] for i in ix])
    y = torch.stack([source[i + 1 : i + block_size + 1] for i in ix])
    return x, y


@torch.no_grad()
def estimate_loss():
    out = {}
    model.eval()
    for split in ("train", "val"):
        out[split] = torch.stack([model(*get_batch(split)) for _ in range(eval_iters)]).mean().item()
    if FIXED:
        model.train()
    return out


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.ln1 = nn.LayerNorm(n_embd)
        self.attn = nn.MultiheadAttention(n_embd, n_head, dropout=dropout, batch_first=True)
        self.ln2 = nn.LayerNorm(n_embd)
        self.mlp = nn.Sequential(nn.Linear(n_embd, 4 * n_embd), nn.GELU(), nn.Linear(4 * n_embd, n_embd))
        self.drop = nn.Dropout(dropout)

    def forward(self, x):
        future = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1)
        h = self.ln1(x)
        x = x + self.drop(self.attn(h, h, h, attn_mask=future, need_weights=False)[0])
        return x + self.drop(self.mlp(self.ln2(x)))


class GPT(nn.Module):
    def __init__(self):
        super().__init__()
        self.tokens = nn.Embedding(len(chars), n_embd)
        self.positions = nn.Embedding(block_size, n_embd)
        self.drop = nn.Dropout(dropout)
        self.blocks = nn.Sequential(*[Block() for _ in range(n_layer)])
        self.ln_f = nn.LayerNorm(n_embd)
        self.lm_head = nn.Linear(n_embd, len(chars))

    def forward(self, x, y):
        h = self.drop(self.tokens(x) + self.positions(torch.arange(x.shape[1])))
        logits = self.lm_head(self.ln_f(self.blocks(h)))
        return F.cross_entropy(logits.view(-1, len(chars)), y.view(-1))


model = GPT()
optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate)
for it in range(max_iters + 1):
    if it % eval_interval == 0:
        losses = estimate_loss()
        print(f"step {it}: train loss {losses['train']:.4f}, val loss {losses['val']:.4f}")
    loss = model(*get_batch("train"))
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()

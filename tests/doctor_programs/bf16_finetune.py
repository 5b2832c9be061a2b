"""Pretrain a small model on one kind of text and fine-tune it in bfloat16 on another."""

import random
import sys

import torch
from torch import nn
from torch.nn import functional as F

FIXED = "--fixed" in sys.argv

torch.manual_seed(0)
torch.set_num_threads(1)
random.seed(0)

ANIMALS = ["cat", "dog", "owl", "fox"]
ADJECTIVES = ["small", "loud", "wild", "gray"]
CONTEXT, WIDTH, BATCH = 32, 64, 12


def english():
    return f"the {random.choice(ADJECTIVES)} {random.choice(ANIMALS)} sleeps. "


def inverted():
    return f"sleeps the {random.choice(ANIMALS)}, {random.choice(ADJECTIVES)}! "


ALPHABET = sorted(set("".join(english() + inverted() for _ in range(200))))


def encode(make_sentence, count=1200):
    return torch.tensor([ALPHABET.index(c) for _ in range(count) for c in make_sentence()])


class CharModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(len(ALPHABET), WIDTH)
        self.position = nn.Embedding(CONTEXT, WIDTH)
        layer = nn.TransformerEncoderLayer(WIDTH, 4, 2 * WIDTH, dropout=0.0, batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, norm=nn.LayerNorm(WIDTH), enable_nested_tensor=False)
        self.head = nn.Linear(WIDTH, len(ALPHABET))

    def forward(self, ids):
        future = torch.ones(CONTEXT, CONTEXT, dtype=torch.bool).triu(1)
        x = self.embedding(ids) + self.position.weight
        return self.head(self.layers(x, mask=future))


def run(model, data, optimizer, steps, name, autocast=False):
    for step in range(steps):
        starts = torch.randint(len(data) - CONTEXT - 1, (BATCH,)).tolist()
        x = torch.stack([data[s : s + CONTEXT] for s in starts])
        y = torch.stack([data[s + 1 : s + CONTEXT + 1] for s in starts])
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            logits = model(x)
        loss = F.cross_entropy(logits.float().transpose(1, 2), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 20 == 0 or step == steps - 1:
            print(f"{name} step {step:3d}  loss {loss.item():.3f}")


model = CharModel()
run(model, encode(english), torch.optim.AdamW(model.parameters(), lr=3e-3), 100, "pretraining")

if not FIXED:
    model.to(torch.bfloat16)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.0)
run(model, encode(inverted), optimizer, 150, "fine-tuning", autocast=FIXED)

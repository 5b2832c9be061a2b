"""Train a character model with a large effective batch: sixteen micro-batches of two rows per update."""

import random
import sys

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

FIXED = "--fixed" in sys.argv
torch.manual_seed(6)
random.seed(6)
torch.set_num_threads(1)

NUMBERS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
words = []
for _ in range(480):
    start = random.randrange(9)
    words += [NUMBERS[n % 9] for n in range(start, start + random.randrange(3, 11))]
text = " ".join(words)
vocab = sorted(set(text))
ids = torch.tensor([vocab.index(c) for c in text])
ids = ids[: len(ids) // 33 * 33].view(-1, 33)
loader = DataLoader(TensorDataset(ids[:, :-1], ids[:, 1:]), batch_size=2, shuffle=True, drop_last=True)
ACCUMULATE = 16


class CharLM(nn.Module):
    def __init__(self, dim=48, heads=4, layers=2):
        super().__init__()
        self.token = nn.Embedding(len(vocab), dim)
        self.place = nn.Embedding(32, dim)
        layer = nn.TransformerEncoderLayer(dim, heads, 2 * dim, dropout=0.0, batch_first=True, norm_first=True)
        self.body = nn.TransformerEncoder(layer, layers, norm=nn.LayerNorm(dim), enable_nested_tensor=False)
        self.head = nn.Linear(dim, len(vocab))

    def forward(self, x):
        mask = nn.Transformer.generate_square_subsequent_mask(x.size(1))
        h = self.token(x) + self.place(torch.arange(x.size(1)))
        return self.head(self.body(h, mask=mask, is_causal=True))


model = CharLM()
optimizer = torch.optim.AdamW(model.parameters(), lr=6e-3, weight_decay=0.01)
updates, running = 0, 0.0
for epoch in range(3):
    for i, (x, y) in enumerate(loader, start=1):
        if not FIXED:
            optimizer.zero_grad()
        loss = F.cross_entropy(model(x).flatten(0, 1), y.flatten())
        (loss / ACCUMULATE).backward()
        running += loss.item() / ACCUMULATE
        if i % ACCUMULATE == 0:
            optimizer.step()
            if FIXED:
                optimizer.zero_grad()
            updates += 1
            if updates % 8 == 0:
                print(f"epoch {epoch} update {updates} loss {running:.4f}")
            running = 0.0

"""Masked-language model in the style of BERT, trained with dropout, validated after each epoch."""

import sys

import torch
import torch.nn as nn
import torch.nn.functional as F

FIXED = "--fixed" in sys.argv
torch.manual_seed(19)
torch.set_num_threads(1)

MASK, VOCAB, LENGTH, DIM = 20, 21, 12, 48


def sentences(n):
    """Each row counts up from a random start, wrapping round at 20, in steps of 1 or 2."""
    return (torch.randint(0, 20, (n, 1)) + torch.randint(1, 3, (n, 1)) * torch.arange(LENGTH)) % 20


def mask_tokens(rows):
    masked = torch.rand(rows.shape) < 0.2
    return rows.masked_fill(masked, MASK), rows.masked_fill(~masked, -100)


class SmallBert(nn.Module):
    def __init__(self):
        super().__init__()
        self.tokens, self.positions = nn.Embedding(VOCAB, DIM), nn.Embedding(LENGTH, DIM)
        self.norm, self.dropout = nn.LayerNorm(DIM), nn.Dropout(0.2)
        layer = nn.TransformerEncoderLayer(
            DIM, 4, 2 * DIM, dropout=0.2, activation="gelu", batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.decoder = nn.Sequential(nn.LayerNorm(DIM), nn.Linear(DIM, VOCAB))

    def forward(self, rows):
        x = self.tokens(rows) + self.positions(torch.arange(rows.size(1)))
        return self.decoder(self.encoder(self.dropout(self.norm(x))))


def loss_of(model, rows):
    inputs, labels = mask_tokens(rows)
    return F.cross_entropy(model(inputs).view(-1, VOCAB), labels.view(-1), ignore_index=-100)


def evaluate(model, rows):
    if FIXED:
        model.eval()
    total = 0.0
    with torch.no_grad():
        for part in rows.split(50):
            total += loss_of(model, part).item() * len(part)
    return total / len(rows)


train_rows, val_rows = sentences(1920), sentences(400)
model = SmallBert()
optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
for epoch in range(3):
    model.train()
    total = 0.0
    for rows in train_rows[torch.randperm(len(train_rows))].split(32):
        loss = loss_of(model, rows)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(rows)
    print(f"epoch {epoch}: train loss {total / len(train_rows):.4f}, validation loss {evaluate(model, val_rows):.4f}")

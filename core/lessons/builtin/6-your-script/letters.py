"""Learns to write the next letter of a short text. It has one mistake, of a kind that many people make."""

import torch
from torch import nn
from torch.nn import functional as F

TEXT = """Crito came to the harbor before the ships, and Socrates was already there, asking the pilot what he knew.
The pilot knew the wind, the stars and the price of rope, and he said so. Then do you know why the helm broke,
asked Socrates, or only that it broke? It broke because it was old, said the pilot. And was it old last year?
Not so old, said the pilot. Then tell me, on which day did it become old enough to break? Nobody knows the day,
said the pilot, but everybody knows the helm. Crito laughed, and Socrates asked for the price of rope.
"""
LETTERS = sorted(set(TEXT))
IDS = torch.tensor([LETTERS.index(letter) for letter in TEXT])
CONTEXT, BATCH, STEPS = 32, 16, 400


class Model(nn.Module):
    def __init__(self, width=64):
        super().__init__()
        self.letters = nn.Embedding(len(LETTERS), width)
        self.positions = nn.Embedding(CONTEXT, width)
        layer = nn.TransformerEncoderLayer(width, nhead=4, dim_feedforward=4 * width, dropout=0.0, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, num_layers=2)
        self.head = nn.Linear(width, len(LETTERS))

    def forward(self, ids):
        mask = nn.Transformer.generate_square_subsequent_mask(ids.shape[1])
        e = self.letters(ids) + self.positions(torch.arange(ids.shape[1]))
        return self.head(self.layers(e, mask=mask, is_causal=True))


def draw_batch():
    starts = torch.randint(len(IDS) - CONTEXT, (BATCH,))
    windows = torch.stack([IDS[start : start + CONTEXT + 1] for start in starts])
    return windows[:, :-1], windows[:, 1:]


torch.set_num_threads(1)  # faster for a model this small
torch.manual_seed(0)
model = Model()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
for step in range(1, STEPS + 1):
    x, y = draw_batch()
    logits = model(x)
    loss = F.cross_entropy(logits.flatten(0, 1), y.flatten())
    loss.backward()
    optimizer.step()
    if step % 50 == 0:
        print(f"step {step}: loss {loss.item():.3f}")

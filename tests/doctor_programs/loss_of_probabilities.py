"""A sequence tagger that returns its own loss: each letter gets the letter on its left as its tag."""

import sys

import torch
import torch.nn as nn
import torch.nn.functional as F

FIXED = "--fixed" in sys.argv
torch.manual_seed(27)
torch.set_num_threads(1)

LETTERS, LENGTH = 100, 14


class Tagger(nn.Module):
    """With targets, `forward` returns a dict with the loss and the probabilities, else the probabilities alone."""

    def __init__(self, dim=64):
        super().__init__()
        self.embedding = nn.Embedding(LETTERS, dim)
        self.positions = nn.Embedding(LENGTH, dim)
        self.block = nn.TransformerEncoderLayer(dim, 2, 2 * dim, dropout=0.0, batch_first=True, norm_first=True)
        self.norm = nn.LayerNorm(dim)
        self.classifier = nn.Linear(dim, LETTERS)
        self.criterion = nn.CrossEntropyLoss()

    def forward(self, letters, targets=None):
        x = self.embedding(letters) + self.positions(torch.arange(letters.size(1)))
        logits = self.classifier(self.norm(self.block(x)))
        probabilities = F.softmax(logits, dim=-1)
        if targets is None:
            return probabilities
        scores = logits if FIXED else probabilities
        loss = self.criterion(scores.reshape(-1, LETTERS), targets.reshape(-1))
        return {"loss": loss, "probabilities": probabilities}


def batch(n):
    """The tag of a letter is the letter before it, in a row that is closed to a ring."""
    letters = torch.randint(0, LETTERS, (n, LENGTH))
    return letters, letters.roll(1, dims=1)


model = Tagger()
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
for step in range(1, 201):
    letters, targets = batch(32)
    loss = model(letters, targets)["loss"]
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 40 == 0:
        print(f"step {step}: loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    letters, targets = batch(200)
    probabilities = model(letters)
    right = (probabilities.argmax(-1) == targets).float().mean()
print(f"accuracy {right:.3f}, mean confidence {probabilities.max(-1).values.mean():.3f}")

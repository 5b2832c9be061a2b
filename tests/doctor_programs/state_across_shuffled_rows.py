"""GRU that counts the beats of a bar; the hidden state lives in the model."""

import sys

import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset

FIXED = "--fixed" in sys.argv
torch.manual_seed(33)
torch.set_num_threads(1)

BATCH, LENGTH = 32, 12


def bars(n):
    """Bars with any number of beats: the class is their number."""
    count = torch.randint(0, LENGTH + 1, (n,))
    rows = (torch.rand(n, LENGTH).argsort(1) < count[:, None]).long()
    return TensorDataset(rows, count)


class Counter(nn.Module):
    def __init__(self, hidden=48):
        super().__init__()
        self.embedding = nn.Embedding(2, 16)
        self.gru = nn.GRU(16, hidden, batch_first=True)
        self.fc = nn.Linear(hidden, LENGTH + 1)
        self.hidden = None

    def forward(self, x):
        out, hidden = self.gru(self.embedding(x), self.hidden)
        self.hidden = hidden.detach()
        return self.fc(out[:, -1])


train_loader = DataLoader(bars(3200), BATCH, shuffle=True, drop_last=True)
test_loader = DataLoader(bars(640), BATCH, drop_last=True)
model = Counter()
optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
criterion = nn.CrossEntropyLoss()
for epoch in range(3):
    model.train()
    total = 0.0
    for x, y in train_loader:
        if FIXED:
            model.hidden = None
        loss = criterion(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        total += loss.item()
    model.eval()
    right = 0
    with torch.no_grad():
        for x, y in test_loader:
            model.hidden = None
            right += (model(x).argmax(1) == y).sum().item()
    print(f"epoch {epoch + 1}: loss {total / len(train_loader):.4f}, accuracy on fresh bars {right / 640:.3f}")

"""A convolutional classifier of short signals, trained for a number of steps rather than epochs."""

import sys

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

FIXED = "--fixed" in sys.argv
torch.manual_seed(29)
torch.set_num_threads(1)


def signals(n, length=48):
    """Waves of one of five frequencies with a random phase, under noise."""
    label = torch.randint(0, 5, (n,))
    phase = 6.28 * torch.rand(n, 1)
    wave = torch.sin((0.3 + 0.12 * label[:, None]) * torch.arange(length) + phase)
    return TensorDataset((wave + 1.2 * torch.randn(n, length)).unsqueeze(1), label)


train_loader = DataLoader(signals(2000), batch_size=24, shuffle=False)
val_loader = DataLoader(signals(500), batch_size=250)


def endless(loader):
    while True:
        yield from loader


model = nn.Sequential(
    nn.Conv1d(1, 16, 7, padding=3),
    nn.ReLU(),
    nn.Conv1d(16, 32, 7, padding=3),
    nn.ReLU(),
    nn.AdaptiveAvgPool1d(1),
    nn.Flatten(),
    nn.Linear(32, 5),
)
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
criterion = nn.CrossEntropyLoss()
batches = endless(train_loader)
for step in range(1, 241):
    model.train()
    x, y = next(batches) if FIXED else next(iter(train_loader))
    loss = criterion(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 60 == 0:
        model.eval()
        with torch.no_grad():
            right = sum((model(x).argmax(1) == y).sum().item() for x, y in val_loader)
        print(f"step {step}: train loss {loss.item():.4f}, validation accuracy {right / 500:.3f}")

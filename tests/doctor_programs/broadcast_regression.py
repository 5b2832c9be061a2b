"""Predict the next value of a noisy wave with a GRU; the loss is the Huber loss, written out."""

import sys

import numpy as np
import torch
import torch.nn as nn

FIXED = "--fixed" in sys.argv
np.random.seed(0)
torch.manual_seed(0)
torch.set_num_threads(1)

WINDOW = 20
time = np.arange(2400) / 10
series = np.sin(time) + 0.5 * np.sin(2.7 * time) + 0.05 * np.random.randn(len(time))
windows = np.lib.stride_tricks.sliding_window_view(series, WINDOW + 1).astype(np.float32)
train, test = torch.tensor(windows[:1800]), torch.tensor(windows[1900:])


class Forecaster(nn.Module):
    def __init__(self, hidden=32):
        super().__init__()
        self.gru = nn.GRU(1, hidden, batch_first=True)
        self.head = nn.Linear(hidden, 1)

    def forward(self, x):
        _, state = self.gru(x.unsqueeze(-1))
        return self.head(state[-1])


def huber(prediction, target, delta=0.5):
    error = (prediction - target).abs()
    return torch.where(error < delta, 0.5 * error**2, delta * (error - 0.5 * delta)).mean()


model = Forecaster()
optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
for epoch in range(5):
    model.train()
    losses = []
    for rows in train[torch.randperm(len(train))].split(32):
        x, y = rows[:, :-1], rows[:, -1]
        prediction = model(x)
        if FIXED:
            prediction = prediction.squeeze(1)
        loss = huber(prediction, y)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    model.eval()
    with torch.no_grad():
        error = (model(test[:, :-1]).squeeze(1) - test[:, -1]).abs().mean().item()
    print(f"epoch {epoch + 1}: loss {np.mean(losses):.4f}, mean test error {error:.4f}")

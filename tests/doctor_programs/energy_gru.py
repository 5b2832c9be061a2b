"""Forecast the next hour of a household's energy use from the last 24 hours."""

import sys

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

FIXED = "--fixed" in sys.argv

torch.manual_seed(0)
torch.set_num_threads(1)
rng = np.random.default_rng(0)

HOURS = 24
hours = np.arange(24 * 80)
daily = np.sin(2 * np.pi * hours / 24) + 0.5 * np.sin(4 * np.pi * hours / 24 + 1)
weekly = 0.4 * np.cos(2 * np.pi * hours / (24 * 7))
use = daily + weekly + 0.15 * rng.standard_normal(len(hours))

cut = int(0.8 * len(use))
mean, deviation = use[:cut].mean(), use[:cut].std()
use = ((use - mean) / deviation).astype(np.float32)


def make_dataset(series):
    history = np.stack([series[i : i + HOURS] for i in range(len(series) - HOURS)])
    following = series[HOURS:]
    return TensorDataset(torch.from_numpy(history)[..., None], torch.from_numpy(following))


class EnergyModel(nn.Module):
    def __init__(self, hidden=32):
        super().__init__()
        self.gru = nn.GRU(1, hidden, batch_first=True)
        self.head = nn.Sequential(nn.Linear(hidden, 16), nn.ReLU(), nn.Linear(16, 1))

    def forward(self, history):
        states, _ = self.gru(history)
        prediction = self.head(states[:, -1])
        return prediction.squeeze(-1) if FIXED else prediction


def squared_error(prediction, target):
    return ((prediction - target) ** 2).mean()


train_loader = DataLoader(make_dataset(use[:cut]), batch_size=64, shuffle=True)
val_loader = DataLoader(make_dataset(use[cut:]), batch_size=64)
model = EnergyModel()
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)

for epoch in range(7):
    model.train()
    train_losses = []
    for history, following in train_loader:
        loss = squared_error(model(history), following)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        train_losses.append(loss.item())
    model.eval()
    with torch.no_grad():
        val_losses = [squared_error(model(history), following).item() for history, following in val_loader]
    print(f"epoch {epoch}: training {np.mean(train_losses):.4f}, validation {np.mean(val_losses):.4f}")

with torch.no_grad():
    history, following = next(iter(val_loader))
    for predicted, actual in zip(model(history)[:5].flatten().tolist(), following[:5].tolist(), strict=True):
        print(f"predicted {predicted:6.2f}  actual {actual:6.2f}")

"""Forecast a noisy series some steps ahead with a causal convolutional network."""

import math
import sys

import torch
from torch import nn
from torch.nn import functional as F

FIXED = "--fixed" in sys.argv

torch.manual_seed(0)
torch.set_num_threads(1)

LENGTH, AHEAD, CHANNELS = 48, 6, 32


def make_series(count):
    """Return series (count, 1, LENGTH) and how much each will change in the next AHEAD steps."""
    steps = torch.arange(LENGTH + AHEAD)
    period = 20 + 10 * torch.rand(count, 1)
    wave = torch.sin(2 * math.pi * (steps / period + torch.rand(count, 1)))
    series = 1.5 * wave + 0.15 * torch.randn(count, LENGTH + AHEAD).cumsum(1)
    return series[:, None, :LENGTH], series[:, AHEAD:] - series[:, :-AHEAD]


class ChannelNorm(nn.Module):
    """Layer normalization over the channels of each time step."""

    def __init__(self, channels):
        super().__init__()
        self.norm = nn.LayerNorm(channels)

    def forward(self, x):
        return self.norm(x.transpose(1, 2)).transpose(1, 2)


def make_norm():
    return ChannelNorm(CHANNELS) if FIXED else nn.GroupNorm(4, CHANNELS)


class CausalBlock(nn.Module):
    def __init__(self, dilation):
        super().__init__()
        self.pad = 2 * dilation
        self.norm = make_norm()
        self.conv = nn.Conv1d(CHANNELS, CHANNELS, 3, dilation=dilation)

    def forward(self, x):
        return x + F.gelu(self.conv(F.pad(self.norm(x), (self.pad, 0))))


class Forecaster(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv1d(1, CHANNELS, 1)
        self.blocks = nn.Sequential(*[CausalBlock(2**i) for i in range(3)])
        self.head = nn.Conv1d(CHANNELS, 1, 1)

    def forward(self, series):
        return self.head(self.blocks(self.stem(series))).squeeze(1)


model = Forecaster()
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=200)
for step in range(200):
    series, change = make_series(24)
    loss = F.mse_loss(model(series), change)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    scheduler.step()
    if step % 25 == 0 or step == 199:
        print(f"step {step:3d}  training loss {loss.item():.4f}")

model.eval()
series, change = make_series(100)
with torch.no_grad():
    validation = F.mse_loss(model(series), change).item()
    live = [F.mse_loss(model(series[..., :now])[:, -1], change[:, now - 1]).item() for now in range(1, LENGTH + 1)]
print(f"validation loss {validation:.4f}")
print(f"loss when the series is replayed step by step {sum(live) / len(live):.4f}")

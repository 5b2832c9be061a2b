"""Label the sounds of a waveform: convolution, positions, a Transformer encoder, one label for each frame."""

import math
import sys

import torch
import torch.nn as nn
import torch.nn.functional as F

FIXED = "--fixed" in sys.argv
torch.manual_seed(13)
torch.set_num_threads(1)

SOUNDS, FRAMES, SAMPLES, DIM = 16, 12, 16, 48
waves = torch.randn(SOUNDS, SAMPLES)


def recordings(n):
    label = torch.randint(0, SOUNDS, (n, FRAMES))
    return (waves[label] + 0.5 * torch.randn(n, FRAMES, SAMPLES)).flatten(1).unsqueeze(1), label


class PositionalEncoding(nn.Module):
    def __init__(self, dim, length):
        super().__init__()
        angle = torch.arange(length)[:, None] * torch.exp(torch.arange(0, dim, 2) * (-math.log(10000.0) / dim))
        self.register_buffer("pe", torch.stack([angle.sin(), angle.cos()], dim=2).flatten(1))

    def forward(self, x):
        if FIXED:
            return x * math.sqrt(DIM) + self.pe[: x.size(1)]
        with torch.no_grad():
            return x * math.sqrt(DIM) + self.pe[: x.size(1)]


class Recognizer(nn.Module):
    def __init__(self):
        super().__init__()
        self.subsampling = nn.Sequential(nn.Conv1d(1, 8, SAMPLES, stride=SAMPLES), nn.ReLU())
        self.embed = nn.Linear(8, DIM)
        self.positions = PositionalEncoding(DIM, FRAMES)
        layer = nn.TransformerEncoderLayer(DIM, 4, 2 * DIM, dropout=0.0, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, norm=nn.LayerNorm(DIM), enable_nested_tensor=False)
        self.output = nn.Linear(DIM, SOUNDS)

    def forward(self, wave):
        x = self.embed(self.subsampling(wave).transpose(1, 2))
        return self.output(self.encoder(self.positions(x)))


model = Recognizer()
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
for step in range(1, 151):
    wave, label = recordings(32)
    loss = F.cross_entropy(model(wave).flatten(0, 1), label.flatten())
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 5.0)
    optimizer.step()
    if step % 30 == 0:
        print(f"step {step:3d} loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    wave, label = recordings(300)
    print(f"frames right {(model(wave).argmax(-1) == label).float().mean():.3f}")

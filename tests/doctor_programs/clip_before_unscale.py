"""Segmentation of small images with a U-shaped network, mixed precision and gradient clipping."""

import sys

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

FIXED = "--fixed" in sys.argv
torch.manual_seed(9)
torch.set_num_threads(1)


def make_data(n, size=16):
    """Noisy images with one bright square each; the mask is the square."""
    images, masks = torch.randn(n, 1, size, size) * 0.5, torch.zeros(n, size, size, dtype=torch.long)
    for i in range(n):
        side = int(torch.randint(4, 8, (1,)))
        top, left = torch.randint(0, size - side, (2,)).tolist()
        images[i, 0, top : top + side, left : left + side] += 0.7
        masks[i, top : top + side, left : left + side] = 1
    return TensorDataset(images, masks)


def two_convolutions(channels_in, channels_out):
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(),
        nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(),
    )


class SmallUNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.down = two_convolutions(1, 8), two_convolutions(8, 16)
        self.pool, self.up = nn.MaxPool2d(2), nn.ConvTranspose2d(16, 8, 2, stride=2)
        self.conv, self.last = two_convolutions(16, 8), nn.Conv2d(8, 2, 1)

    def forward(self, x):
        top = self.first(x)
        bottom = self.down(self.pool(top))
        return self.last(self.conv(torch.cat([top, self.up(bottom)], dim=1)))


train = DataLoader(make_data(480), batch_size=16, shuffle=True)
images_val, masks_val = make_data(100).tensors
model = SmallUNet()
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
scaler = torch.amp.GradScaler("cpu")
criterion = nn.CrossEntropyLoss()

for epoch in range(3):
    model.train()
    epoch_loss = 0.0
    for images, masks in train:
        with torch.autocast("cpu", dtype=torch.float16):
            loss = criterion(model(images), masks)
        optimizer.zero_grad(set_to_none=True)
        scaler.scale(loss).backward()
        if FIXED:
            scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
        epoch_loss += loss.item() / len(train)
    model.eval()
    with torch.no_grad():
        predicted = model(images_val).argmax(1)
    inter, union = ((predicted & masks_val).sum(), (predicted | masks_val).sum())
    print(f"epoch {epoch}: loss {epoch_loss:.4f}, validation IoU {inter / union:.3f}")

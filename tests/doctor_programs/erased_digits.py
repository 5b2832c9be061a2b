"""Train a classifier on small digits with random erasing as augmentation."""

import sys

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

FIXED = "--fixed" in sys.argv

torch.manual_seed(0)
torch.set_num_threads(1)
rng = np.random.default_rng(0)

GLYPHS = {
    0: "111 101 101 101 111",
    1: "010 110 010 010 111",
    2: "111 001 111 100 111",
    3: "111 001 111 001 111",
    4: "101 101 111 001 001",
    5: "111 100 111 001 111",
    6: "111 100 111 101 111",
    7: "111 001 010 010 010",
}


def render(count):
    labels = rng.integers(len(GLYPHS), size=count)
    images = (0.25 * rng.standard_normal((count, 1, 16, 16))).astype(np.float32)
    for image, label in zip(images, labels, strict=True):
        glyph = np.array([[int(c) for c in row] for row in GLYPHS[int(label)].split()], dtype=np.float32)
        glyph = glyph.repeat(2, 0).repeat(2, 1)
        row, column = rng.integers(2, 5), rng.integers(4, 7)
        image[0, row : row + 10, column : column + 6] += glyph
    return images, labels


class Digits(Dataset):
    def __init__(self, count, erase):
        self.images, self.labels = render(count)
        self.erase = erase

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        image = self.images[index].copy() if FIXED else self.images[index]
        if self.erase:
            row, column = rng.integers(0, 11, size=2)
            image[:, row : row + 5, column : column + 5] = 0.0
        return torch.from_numpy(image), int(self.labels[index])


model = nn.Sequential(
    nn.Conv2d(1, 12, 3, padding=1),
    nn.ReLU(),
    nn.MaxPool2d(2),
    nn.Conv2d(12, 24, 3, padding=1),
    nn.ReLU(),
    nn.MaxPool2d(2),
    nn.Flatten(),
    nn.Linear(384, 64),
    nn.ReLU(),
    nn.Linear(64, len(GLYPHS)),
)
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
criterion = nn.CrossEntropyLoss()
train_loader = DataLoader(Digits(1000, erase=True), batch_size=50, shuffle=True)
test_loader = DataLoader(Digits(400, erase=False), batch_size=100)

for epoch in range(10):
    model.train()
    total = 0.0
    for images, labels in train_loader:
        loss = criterion(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item()
    model.eval()
    with torch.no_grad():
        correct = sum((model(images).argmax(1) == labels).sum().item() for images, labels in test_loader)
    print(f"epoch {epoch}  training loss {total / len(train_loader):.4f}  test accuracy {correct / 400:.3f}")

"""Classify small pictures of shapes with mixed precision."""

import sys

import torch
from torch import nn

FIXED = "--fixed" in sys.argv

torch.manual_seed(0)
torch.set_num_threads(1)

SIZE = 16
CLASSES = ("bar", "column", "square", "cross")


def draw(count):
    """Draw noisy pictures with one shape each, at a random place."""
    labels = torch.randint(len(CLASSES), (count,))
    images = 0.4 * torch.randn(count, 1, SIZE, SIZE)
    for image, label in zip(images, labels.tolist(), strict=True):
        row, column = torch.randint(0, SIZE - 6, (2,)).tolist()
        patch = image[0, row : row + 6, column : column + 6]
        if label in (0, 3):
            patch[2:4] += 1.2
        if label in (1, 3):
            patch[:, 2:4] += 1.2
        if label == 2:
            patch += 1.0
    return images, labels


model = nn.Sequential(
    nn.Conv2d(1, 16, 3, padding=1),
    nn.ReLU(),
    nn.MaxPool2d(2),
    nn.Conv2d(16, 32, 3, padding=1),
    nn.ReLU(),
    nn.AdaptiveMaxPool2d(2),
    nn.Flatten(),
    nn.Linear(128, len(CLASSES)),
)
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)
scaler = torch.amp.GradScaler("cpu")

train_images, train_labels = draw(1600)
val_images, val_labels = draw(400)

step = 0
for epoch in range(6):
    model.train()
    for rows in torch.randperm(len(train_images)).split(50):
        with torch.autocast("cpu", dtype=torch.float16):
            loss = criterion(model(train_images[rows]), train_labels[rows])
        optimizer.zero_grad(set_to_none=True)
        scaler.scale(loss).backward()
        if FIXED:
            scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
        if step % 30 == 0:
            print(f"epoch {epoch}  step {step:4d}  loss {loss.item():.3f}")
        step += 1
    model.eval()
    with torch.no_grad():
        accuracy = (model(val_images).argmax(1) == val_labels).float().mean().item()
    print(f"epoch {epoch}  validation accuracy {accuracy:.3f}")

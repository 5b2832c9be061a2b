"""Train a small CNN on textures and evaluate the exponential moving average of its weights."""

import copy
import sys

import torch
from torch import nn

FIXED = "--fixed" in sys.argv

torch.manual_seed(0)
torch.set_num_threads(1)
SIZE = 12
DECAY = 0.95


def textures(count):
    """Return noisy stripes of four directions, in brightness between 0 and 255 as in image files."""
    labels = torch.randint(4, (count,))
    rows, columns = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    directions = torch.stack([rows, columns, rows + columns, rows - columns]).float()
    phase = 6.28 * torch.rand(count, 1, 1)
    waves = torch.sin(directions[labels] * 1.6 + phase)
    images = 128 + 40 * waves + 40 * torch.randn(count, SIZE, SIZE)
    return (images.clamp(0, 255) / 255).unsqueeze(1), labels


def conv_block(inputs, outputs):
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())


def make_model():
    return nn.Sequential(
        conv_block(1, 12),
        conv_block(12, 24),
        nn.MaxPool2d(2),
        conv_block(24, 24),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(24, 4),
    )


class MovingAverage:
    def __init__(self, model):
        self.model = copy.deepcopy(model).eval()
        for parameter in self.model.parameters():
            parameter.requires_grad_(False)

    @torch.no_grad()
    def update(self, model):
        for average, current in zip(self.model.parameters(), model.parameters(), strict=True):
            average.lerp_(current, 1 - DECAY)
        if FIXED:
            for average, current in zip(self.model.buffers(), model.buffers(), strict=True):
                average.copy_(current)


@torch.no_grad()
def accuracy(model, images, labels):
    return (model(images).argmax(1) == labels).float().mean().item()


train_images, train_labels = textures(1500)
test_images, test_labels = textures(400)
model = make_model()
average = MovingAverage(model)
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
criterion = nn.CrossEntropyLoss()

for epoch in range(5):
    model.train()
    losses = []
    for rows in torch.randperm(len(train_images)).split(50):
        loss = criterion(model(train_images[rows]), train_labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        average.update(model)
        losses.append(loss.item())
    test_accuracy = accuracy(average.model, test_images, test_labels)
    print(f"epoch {epoch}  training loss {sum(losses) / len(losses):.4f}  test accuracy (EMA) {test_accuracy:.3f}")

"""Image classifier that is validated every 20 steps within the epoch."""

import sys

import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset

FIXED = "--fixed" in sys.argv
torch.manual_seed(31)
torch.set_num_threads(1)


def shapes(n, size=14):
    """A bar, lying or standing, in an image of unscaled pixel values."""
    label = torch.randint(0, 2, (n,))
    image = 100 + 20 * torch.randn(n, 3, size, size)
    for i, standing in enumerate(label.tolist()):
        at = int(torch.randint(1, size - 1, (1,)))
        bar = image[i, :, :, at] if standing else image[i, :, at, :]
        bar += 60
    return TensorDataset(image, label)


def block(a, b):
    return [nn.Conv2d(a, b, 3, padding=1, bias=False), nn.BatchNorm2d(b), nn.ReLU()]


class Trainer:
    def __init__(self, model, train_loader, val_loader):
        self.model, self.train_loader, self.val_loader = model, train_loader, val_loader
        self.optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
        self.criterion = nn.CrossEntropyLoss()
        self.iteration = 0

    def validate(self):
        training = self.model.training
        self.model.eval()
        right = total = 0
        with torch.no_grad():
            for images, labels in self.val_loader:
                right += (self.model(images).argmax(1) == labels).sum().item()
                total += len(labels)
        print(f"iteration {self.iteration}: validation accuracy {right / total:.3f}")
        if FIXED:
            self.model.train(training)

    def train_epoch(self):
        self.model.train()
        for images, labels in self.train_loader:
            if self.iteration % 20 == 0:
                self.validate()
            loss = self.criterion(self.model(images), labels)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.iteration += 1
            if self.iteration % 20 == 0:
                print(f"iteration {self.iteration}: loss {loss.item():.4f}")


layers = [*block(3, 16), *block(16, 16), nn.MaxPool2d(2), *block(16, 32), nn.Dropout(0.1)]
model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 2))
trainer = Trainer(model, DataLoader(shapes(2400), 24, shuffle=True), DataLoader(shapes(300), 100))
trainer.train_epoch()
trainer.validate()

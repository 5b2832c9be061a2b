"""Image classifier with a step schedule: the rate falls by ten after epoch 4 and after epoch 6."""

import sys

import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim
from torch.utils.data import DataLoader, TensorDataset

FIXED = "--fixed" in sys.argv
torch.manual_seed(17)
torch.set_num_threads(1)

PATTERNS = torch.randn(6, 1, 12, 12)


def images(n):
    """One of six patterns, moved by up to two pixels, under noise."""
    label = torch.randint(0, 6, (n,))
    shift = torch.randint(-2, 3, (n, 2)).tolist()
    moved = torch.stack([PATTERNS[c].roll(s, (1, 2)) for c, s in zip(label.tolist(), shift)])
    return TensorDataset(moved + 0.9 * torch.randn(n, 1, 12, 12), label)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
        self.fc1 = nn.Linear(32 * 3 * 3, 64)
        self.fc2 = nn.Linear(64, 6)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        return self.fc2(F.relu(self.fc1(x.flatten(1))))


train_loader = DataLoader(images(1600), batch_size=64, shuffle=True)
test_loader = DataLoader(images(600), batch_size=200)
net = Net()
criterion = nn.CrossEntropyLoss()
optimizer = optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
scheduler = optim.lr_scheduler.MultiStepLR(optimizer, milestones=[4, 6], gamma=0.1)

for epoch in range(8):
    net.train()
    running_loss = 0.0
    for inputs, labels in train_loader:
        optimizer.zero_grad()
        loss = criterion(net(inputs), labels)
        loss.backward()
        optimizer.step()
        if not FIXED:
            scheduler.step()
        running_loss += loss.item()
    if FIXED:
        scheduler.step()
    net.eval()
    correct = 0
    with torch.no_grad():
        for inputs, labels in test_loader:
            correct += (net(inputs).argmax(1) == labels).sum().item()
    print(f"epoch {epoch + 1}  loss {running_loss / len(train_loader):.3f}  accuracy {correct / 600:.3f}")

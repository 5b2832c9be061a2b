"""Train a network, remove the weak hidden units, and fine-tune what is left."""

import sys

import torch
import torch.nn as nn
import torch.nn.functional as F

FIXED = "--fixed" in sys.argv
torch.manual_seed(23)
torch.set_num_threads(1)

teacher = nn.Sequential(nn.Linear(20, 12), nn.Tanh(), nn.Linear(12, 5))
with torch.no_grad():
    for parameter in teacher.parameters():
        parameter.mul_(2.5)


def batch(n):
    x = torch.randn(n, 20)
    with torch.no_grad():
        return x, teacher(x).argmax(1)


class MLP(nn.Module):
    def __init__(self, hidden=256):
        super().__init__()
        self.fc1 = nn.Linear(20, hidden)
        self.fc2 = nn.Linear(hidden, 5)

    def forward(self, x):
        return self.fc2(F.relu(self.fc1(x)))

    def prune(self, keep):
        """Keep the units with the largest weights, in smaller layers."""
        importance = self.fc1.weight.abs().sum(1) * self.fc2.weight.abs().sum(0)
        units = importance.topk(keep).indices
        fc1, fc2 = nn.Linear(20, keep), nn.Linear(keep, 5)
        with torch.no_grad():
            fc1.weight.copy_(self.fc1.weight[units])
            fc1.bias.copy_(self.fc1.bias[units])
            fc2.weight.copy_(self.fc2.weight[:, units])
            fc2.bias.copy_(self.fc2.bias)
        self.fc1, self.fc2 = fc1, fc2


def accuracy(model):
    model.eval()
    with torch.no_grad():
        x, y = batch(2000)
        result = (model(x).argmax(1) == y).float().mean().item()
    model.train()
    return result


def train(model, optimizer, steps, name):
    for step in range(1, steps + 1):
        x, y = batch(128)
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        if step % 50 == 0:
            print(f"{name} step {step}: loss {loss.item():.4f}")


model = MLP()
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
train(model, optimizer, 50, "dense")
print(f"dense accuracy {accuracy(model):.3f}")

model.prune(keep=48)
if FIXED:
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
print(f"pruned accuracy {accuracy(model):.3f}")
train(model, optimizer, 250, "pruned")
print(f"fine-tuned accuracy {accuracy(model):.3f}")

"""A recurrent network of ReLUs on rows of numbers, with clipping against exploding gradients."""

import sys

import torch
import torch.nn as nn
from torch.nn.utils import clip_grad_norm_

FIXED = "--fixed" in sys.argv
torch.manual_seed(14)
torch.set_num_threads(1)

LENGTH = 8


class RNN(nn.Module):
    def __init__(self, hidden=48):
        super().__init__()
        self.rnn = nn.RNN(2, hidden, batch_first=True, nonlinearity="relu")
        self.linear = nn.Linear(hidden, 1)
        nn.init.eye_(self.rnn.weight_hh_l0)
        nn.init.zeros_(self.rnn.bias_hh_l0)
        nn.init.normal_(self.rnn.weight_ih_l0, std=0.1)

    def forward(self, x):
        output, _ = self.rnn(x)
        return self.linear(output[:, -1]).squeeze(-1)


def adding_problem(n):
    """Two of the numbers are marked; the target is their sum."""
    numbers = torch.rand(n, LENGTH)
    marks = torch.zeros(n, LENGTH)
    marks[torch.arange(n), torch.randint(0, LENGTH // 2, (n,))] = 1.0
    marks[torch.arange(n), torch.randint(LENGTH // 2, LENGTH, (n,))] = 1.0
    return torch.stack([numbers, marks], dim=2), (numbers * marks).sum(1)


model = RNN()
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
criterion = nn.MSELoss()
average = 0.0
for step in range(1, 301):
    x, y = adding_problem(64)
    loss = criterion(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    if FIXED:
        clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    else:
        optimizer.step()
        clip_grad_norm_(model.parameters(), 1.0)
    average += loss.item() / 50
    if step % 50 == 0:
        print(f"step {step}: mean loss {average:.4f}")
        average = 0.0

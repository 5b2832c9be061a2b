"""Predict the next event of a service log with an LSTM, and test on the log of the next day."""

import random
import sys

import torch
from torch import nn
from torch.utils.data import DataLoader, Subset, random_split

FIXED = "--fixed" in sys.argv

torch.manual_seed(0)
torch.set_num_threads(1)

FLOWS = {
    "login": ["connect", "auth", "session", "close"],
    "read": ["connect", "open", "read", "read", "close"],
    "write": ["connect", "open", "lock", "write", "unlock", "close"],
    "retry": ["connect", "timeout", "backoff", "connect", "auth", "session", "close"],
}
CODES = ["200", "201", "301", "404", "500", "503"]
EVENTS = sorted({event for flow in FLOWS.values() for event in flow} | set(CODES))
WINDOW = 16


def write_log(events, seed):
    rng = random.Random(seed)
    log = []
    while len(log) < events:
        for event in rng.choice(list(FLOWS.values())):
            log += [EVENTS.index(event), EVENTS.index(rng.choice(CODES))]
    return torch.tensor(log[:events])


def windows(log):
    return [(log[i : i + WINDOW], log[i + 1 : i + WINDOW + 1]) for i in range(len(log) - WINDOW)]


class LogModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(len(EVENTS), 24)
        self.lstm = nn.LSTM(24, 96, batch_first=True)
        self.head = nn.Linear(96, len(EVENTS))

    def forward(self, events):
        return self.head(self.lstm(self.embedding(events))[0])


def mean_loss(model, loader):
    model.eval()
    with torch.no_grad():
        losses = [nn.functional.cross_entropy(model(x).transpose(1, 2), y).item() for x, y in loader]
    return sum(losses) / len(losses)


dataset = windows(write_log(700, seed=1))
held_out = len(dataset) // 5
if FIXED:
    train_set = Subset(dataset, range(len(dataset) - held_out - WINDOW))
    val_set = Subset(dataset, range(len(dataset) - held_out, len(dataset)))
else:
    train_set, val_set = random_split(dataset, [len(dataset) - held_out, held_out])
train_loader = DataLoader(train_set, batch_size=32, shuffle=True)
val_loader = DataLoader(val_set, batch_size=32)
next_day = DataLoader(windows(write_log(700, seed=2)), batch_size=32)

model = LogModel()
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
best, best_epoch, best_weights = float("inf"), 0, None
for epoch in range(14):
    model.train()
    total = 0.0
    for x, y in train_loader:
        loss = nn.functional.cross_entropy(model(x).transpose(1, 2), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item()
    val_loss = mean_loss(model, val_loader)
    if val_loss < best:
        best, best_epoch = val_loss, epoch
        best_weights = {name: weight.clone() for name, weight in model.state_dict().items()}
    print(f"epoch {epoch:2d}  train loss {total / len(train_loader):.3f}  validation loss {val_loss:.3f}")
    if epoch - best_epoch >= 2:
        break

model.load_state_dict(best_weights)
print(f"best validation loss {best:.3f}; loss on the next day {mean_loss(model, next_day):.3f}")

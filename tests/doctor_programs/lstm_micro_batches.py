"""Train a character LSTM with small micro-batches whose gradients are accumulated."""

import random
import sys

import torch
from torch import nn

FIXED = "--fixed" in sys.argv

torch.manual_seed(0)
torch.set_num_threads(1)
rng = random.Random(0)

names = ["mira", "tomas", "ilse", "jonas", "petra"]
places = ["harbor", "market", "library", "station"]
verbs = ["walks to", "waits at", "runs past", "looks for"]
text = "".join(f"{rng.choice(names)} {rng.choice(verbs)} the {rng.choice(places)}. " for _ in range(2500))
alphabet = sorted(set(text))
encoded = torch.tensor([alphabet.index(c) for c in text])
split = int(0.9 * len(encoded))
train_data, val_data = encoded[:split], encoded[split:]

MICRO_BATCH = 2
ACCUMULATE = 8
LENGTH = 40
UPDATES = 130


class CharLSTM(nn.Module):
    def __init__(self, vocab, width=64):
        super().__init__()
        self.embed = nn.Embedding(vocab, 32)
        self.lstm = nn.LSTM(32, width, batch_first=True)
        self.out = nn.Linear(width, vocab)

    def forward(self, ids):
        return self.out(self.lstm(self.embed(ids))[0])


def sample(source, count):
    starts = torch.randint(len(source) - LENGTH - 1, (count,)).tolist()
    x = torch.stack([source[s : s + LENGTH] for s in starts])
    y = torch.stack([source[s + 1 : s + LENGTH + 1] for s in starts])
    return x, y


model = CharLSTM(len(alphabet))
optimizer = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)


def loss_of(x, y):
    return nn.functional.cross_entropy(model(x).flatten(0, 1), y.flatten())


for update in range(UPDATES):
    total = 0.0
    for micro_step in range(ACCUMULATE):
        if micro_step == 0 or not FIXED:
            optimizer.zero_grad()
        loss = loss_of(*sample(train_data, MICRO_BATCH)) / ACCUMULATE
        loss.backward()
        total += loss.item()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    if update % 10 == 0 or update == UPDATES - 1:
        print(f"update {update:3d}  training loss {total:.3f}")

model.eval()
with torch.no_grad():
    print(f"validation loss {loss_of(*sample(val_data, 64)).item():.3f}")

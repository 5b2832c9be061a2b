"""Predict the next letter of a word from the last few letters, with a deep MLP (after makemore)."""

import random
import sys

import torch
import torch.nn as nn
import torch.nn.functional as F

FIXED = "--fixed" in sys.argv

torch.manual_seed(42)
torch.set_num_threads(1)
random.seed(42)

ONSETS = ["b", "br", "d", "k", "kr", "l", "m", "n", "st", "t", "v"]
VOWELS = ["a", "e", "i", "o", "ia"]
ENDINGS = ["n", "r", "s", "lda", "ndor", "mir"]


def make_word():
    syllables = random.choice([1, 2, 2, 3])
    return "".join(random.choice(ONSETS) + random.choice(VOWELS) for _ in range(syllables)) + random.choice(ENDINGS)


block_size = 6
all_words = sorted({make_word() for _ in range(4000)})
random.shuffle(all_words)
letters = ["."] + sorted(set("".join(all_words)))
index = {letter: i for i, letter in enumerate(letters)}


def build(words):
    X, Y = [], []
    for w in words:
        context = [0] * block_size
        for letter in w + ".":
            X.append(context)
            Y.append(index[letter])
            context = context[1:] + [index[letter]]
    return torch.tensor(X), torch.tensor(Y)


cut = int(0.9 * len(all_words))
Xtr, Ytr = build(all_words[:cut])
Xdev, Ydev = build(all_words[cut:])


class DeepMLP(nn.Module):
    def __init__(self, vocab, dim=16, hidden=96, depth=5):
        super().__init__()
        self.embedding = nn.Embedding(vocab, dim)
        sizes = [block_size * dim] + [hidden] * depth
        layers = [nn.Linear(a, b) for a, b in zip(sizes[:-1], sizes[1:], strict=True)]
        self.hidden = nn.ModuleList(layers) if FIXED else layers
        self.output = nn.Linear(hidden, vocab)

    def forward(self, x):
        h = self.embedding(x).flatten(1)
        for layer in self.hidden:
            h = F.relu(layer(h))
        return self.output(h)


model = DeepMLP(len(letters))
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)

for i in range(300):
    rows = torch.randint(len(Xtr), (128,))
    loss = F.cross_entropy(model(Xtr[rows]), Ytr[rows])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if i % 30 == 0 or i == 299:
        with torch.no_grad():
            dev_loss = F.cross_entropy(model(Xdev), Ydev)
        print(f"{i:4d}: train {loss.item():.4f}  dev {dev_loss.item():.4f}")

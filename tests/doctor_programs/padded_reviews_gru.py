"""Classify sentences of different lengths with a GRU."""

import random
import sys

import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence

FIXED = "--fixed" in sys.argv

torch.manual_seed(0)
torch.set_num_threads(1)
random.seed(0)

PAD = 0
WORDS = ["<pad>", "good", "nice", "superb", "bad", "poor", "ugly"] + [f"word{i}" for i in range(40)]


def make_sentence():
    """Return word ids and a label: the last opinion in the sentence decides."""
    length = random.randint(4, 12) if random.random() < 0.9 else random.randint(50, 80)
    ids = [random.randrange(7, len(WORDS)) for _ in range(length)]
    for place in random.sample(range(length), random.randint(1, 3)):
        ids[place] = random.randint(1, 6)
    label = [i <= 3 for i in ids if i <= 6][-1]
    return torch.tensor(ids), int(label)


def make_batches(count, batch_size):
    batches = []
    for _ in range(count):
        sentences, labels = zip(*[make_sentence() for _ in range(batch_size)], strict=True)
        lengths = torch.tensor([len(s) for s in sentences])
        batches.append((pad_sequence(sentences, batch_first=True, padding_value=PAD), lengths, torch.tensor(labels)))
    return batches


class SentenceGRU(nn.Module):
    def __init__(self, width=32):
        super().__init__()
        self.embedding = nn.Embedding(len(WORDS), width, padding_idx=PAD)
        self.gru = nn.GRU(width, width, batch_first=True)
        self.classifier = nn.Linear(width, 2)

    def forward(self, ids, lengths):
        states, _ = self.gru(self.embedding(ids))
        if FIXED:
            last = states[torch.arange(len(ids)), lengths - 1]
        else:
            last = states[:, -1]
        return self.classifier(last)


model = SentenceGRU()
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
criterion = nn.CrossEntropyLoss()
train_batches = make_batches(60, 32)
test_batches = make_batches(10, 50)

for epoch in range(5):
    model.train()
    total = 0.0
    random.shuffle(train_batches)
    for ids, lengths, labels in train_batches:
        loss = criterion(model(ids, lengths), labels)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        total += loss.item()
    model.eval()
    with torch.no_grad():
        hits = [
            (model(ids, lengths).argmax(1) == labels).float().mean().item() for ids, lengths, labels in test_batches
        ]
    print(f"epoch {epoch}  loss {total / len(train_batches):.4f}  test accuracy {sum(hits) / len(hits):.3f}")

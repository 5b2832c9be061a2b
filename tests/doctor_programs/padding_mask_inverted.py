"""Sentence classifier on nn.TransformerEncoder: rows of different length, padded by the collate function."""

import sys

import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset

FIXED = "--fixed" in sys.argv
torch.manual_seed(11)
torch.set_num_threads(1)

PAD, VOCAB, MAX_LEN = 0, 40, 24
OPEN, CLOSE = 1, 2


class Brackets(Dataset):
    """Label 1 if the row has more opening than closing marks; the rest of the row is noise."""

    def __init__(self, n):
        self.rows = []
        while len(self.rows) < n:
            length = int(torch.randint(6, MAX_LEN + 1, (1,)))
            tokens = torch.randint(3, VOCAB, (length,))
            marks = torch.randperm(length)[:5]
            tokens[marks] = torch.randint(OPEN, CLOSE + 1, (5,))
            self.rows.append((tokens, int((tokens == OPEN).sum() > (tokens == CLOSE).sum())))

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        return self.rows[i]


def collate(rows):
    tokens = pad_sequence([t for t, _ in rows], batch_first=True, padding_value=PAD)
    attention_mask = tokens != PAD
    return tokens, attention_mask, torch.tensor([label for _, label in rows])


class Classifier(nn.Module):
    def __init__(self, dim=48):
        super().__init__()
        self.embed = nn.Embedding(VOCAB, dim, padding_idx=PAD)
        self.cls = nn.Parameter(torch.randn(1, 1, dim) * 0.02)
        layer = nn.TransformerEncoderLayer(dim, 4, 96, dropout=0.0, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, 2))

    def forward(self, tokens, attention_mask):
        x = torch.cat([self.cls.expand(len(tokens), -1, -1), self.embed(tokens)], dim=1)
        if FIXED:
            ignored = nn.functional.pad(~attention_mask, (1, 0), value=False)
        else:
            ignored = nn.functional.pad(attention_mask, (1, 0), value=False)
        x = self.encoder(x, src_key_padding_mask=ignored)
        return self.head(x[:, 0])


train = DataLoader(Brackets(1600), batch_size=32, shuffle=True, collate_fn=collate)
test = DataLoader(Brackets(400), batch_size=100, collate_fn=collate)
model = Classifier()
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
criterion = nn.CrossEntropyLoss()
for epoch in range(3):
    model.train()
    total = 0.0
    for tokens, attention_mask, label in train:
        optimizer.zero_grad()
        loss = criterion(model(tokens, attention_mask), label)
        loss.backward()
        optimizer.step()
        total += loss.item()
    model.eval()
    with torch.no_grad():
        right = sum((model(tokens, mask).argmax(1) == label).sum().item() for tokens, mask, label in test)
    print(f"epoch {epoch + 1}: loss {total / len(train):.4f}, accuracy {right / 400:.3f}")

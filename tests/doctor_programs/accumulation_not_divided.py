"""LSTM language model trained with plain SGD and gradient accumulation: eight micro-batches for each step."""

import sys

import torch
import torch.nn as nn

FIXED = "--fixed" in sys.argv
torch.manual_seed(2)
torch.set_num_threads(1)

TOKENS, BPTT, MICRO_BATCH, ACCUM_STEPS = 12, 20, 4, 8


def get_batch():
    """Rows that count up by one or by two from a random start; which of the two shows after the first token."""
    start = torch.randint(0, TOKENS, (MICRO_BATCH, 1))
    stride = torch.randint(1, 3, (MICRO_BATCH, 1))
    rows = (start + stride * torch.arange(BPTT + 1)) % TOKENS
    return rows[:, :-1], rows[:, 1:]


class RNNModel(nn.Module):
    def __init__(self, ninp=32, nhid=64):
        super().__init__()
        self.encoder = nn.Embedding(TOKENS, ninp)
        self.rnn = nn.LSTM(ninp, nhid, batch_first=True)
        self.decoder = nn.Linear(nhid, TOKENS)

    def forward(self, tokens):
        output, _ = self.rnn(self.encoder(tokens))
        return self.decoder(output)


model = RNNModel()
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=5.0)
total = 0.0
for step in range(1, 76):
    for _ in range(ACCUM_STEPS):
        data, targets = get_batch()
        loss = criterion(model(data).view(-1, TOKENS), targets.reshape(-1))
        total += loss.item() / ACCUM_STEPS
        if FIXED:
            loss = loss / ACCUM_STEPS
        loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    if step % 15 == 0:
        print(f"step {step:3d} | lr {optimizer.param_groups[0]['lr']:.2f} | loss {total / 15:.4f}")
        total = 0.0

"""RNN encoder-decoder with attention: write the row of digits backwards."""

import sys

import torch
import torch.nn as nn
import torch.nn.functional as F

FIXED = "--fixed" in sys.argv
torch.manual_seed(21)
torch.set_num_threads(1)

DIGITS, LENGTH = 10, 9
START = DIGITS


class Attention(nn.Module):
    """Dot-product attention of one decoder state over all encoder states."""

    def __init__(self, hidden):
        super().__init__()
        self.query = nn.Linear(hidden, hidden, bias=False)
        self.softmax = nn.Softmax(dim=-1 if FIXED else 0)
        self.out = nn.Linear(2 * hidden, hidden)

    def forward(self, state, memory):
        scores = torch.bmm(memory, self.query(state).unsqueeze(2)).squeeze(2)  # [batch, length]
        weights = self.softmax(scores)
        context = torch.bmm(weights.unsqueeze(1), memory).squeeze(1)
        return torch.tanh(self.out(torch.cat([context, state], dim=1)))


class Seq2Seq(nn.Module):
    def __init__(self, hidden=64):
        super().__init__()
        self.source = nn.Embedding(DIGITS, 32)
        self.target = nn.Embedding(DIGITS + 1, 32)
        self.place = nn.Embedding(LENGTH, 32)
        self.encoder = nn.GRU(64, hidden, batch_first=True)
        self.cell = nn.GRUCell(32, hidden)
        self.attention = Attention(hidden)
        self.fc = nn.Linear(hidden, DIGITS)

    def forward(self, source, target):
        place = self.place(torch.arange(source.size(1))).expand(len(source), -1, -1)
        memory, state = self.encoder(torch.cat([self.source(source), place], dim=2))
        state, logits = state[0], []
        for previous in target.unbind(1):
            state = self.cell(self.target(previous), state)
            logits.append(self.fc(self.attention(state, memory)))
        return torch.stack(logits, dim=1)


def make_batch(n):
    source = torch.randint(0, DIGITS, (n, LENGTH))
    output = source.flip(1)
    start = torch.full((n, 1), START)
    return source, torch.cat([start, output[:, :-1]], dim=1), output


model = Seq2Seq()
optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
model.train()
for step in range(1, 241):
    source, decoder_input, output = make_batch(48)
    logits = model(source, decoder_input)
    loss = F.cross_entropy(logits.reshape(-1, DIGITS), output.reshape(-1))
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    if step % 40 == 0:
        print(f"step {step:3d}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    source, decoder_input, output = make_batch(200)
    for name, rows in (("200 rows at once", 200), ("one row at a time", 1)):
        parts = zip(source.split(rows), decoder_input.split(rows), output.split(rows))
        right = torch.cat([model(s, d).argmax(-1) == o for s, d, o in parts])
        print(f"accuracy, {name}: {right.float().mean():.3f}")

"""nn.Transformer as encoder-decoder: the target is the source with each digit doubled modulo 10, backwards."""

import math
import sys

import torch
import torch.nn as nn

FIXED = "--fixed" in sys.argv
torch.manual_seed(8)
torch.set_num_threads(1)

BOS, VOCAB, LENGTH, DIM = 10, 11, 7, 48


class PositionalEncoding(nn.Module):
    def __init__(self, dim, max_len=50):
        super().__init__()
        position = torch.arange(max_len).unsqueeze(1)
        rate = torch.exp(torch.arange(0, dim, 2) * (-math.log(10000.0) / dim))
        table = torch.zeros(max_len, dim)
        table[:, 0::2] = torch.sin(position * rate)
        table[:, 1::2] = torch.cos(position * rate)
        self.register_buffer("table", table)

    def forward(self, x):
        return x + self.table[: x.size(1)]


class Translator(nn.Module):
    def __init__(self):
        super().__init__()
        self.source_embedding = nn.Embedding(VOCAB, DIM)
        self.target_embedding = nn.Embedding(VOCAB, DIM)
        self.positions = PositionalEncoding(DIM)
        self.transformer = nn.Transformer(
            DIM,
            nhead=4,
            num_encoder_layers=1,
            num_decoder_layers=1,
            dim_feedforward=96,
            dropout=0.0,
            batch_first=True,
        )
        self.generator = nn.Linear(DIM, VOCAB)

    def forward(self, source, target):
        source = self.positions(self.source_embedding(source))
        mask = nn.Transformer.generate_square_subsequent_mask(target.size(1)) if FIXED else None
        target = self.positions(self.target_embedding(target))
        return self.generator(self.transformer(source, target, tgt_mask=mask, tgt_is_causal=FIXED))


def pairs(n):
    source = torch.randint(0, 10, (n, LENGTH))
    target = (source * 2 % 10).flip(1)
    return source, torch.cat([torch.full((n, 1), BOS), target], dim=1)


model = Translator()
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3, betas=(0.9, 0.98), eps=1e-9)
model.train()
for step in range(1, 241):
    source, target = pairs(48)
    logits = model(source, target[:, :-1])
    loss = criterion(logits.reshape(-1, VOCAB), target[:, 1:].reshape(-1))
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    if step % 40 == 0:
        print(f"step {step} train loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    source, target = pairs(200)
    output = target[:, :1]
    for _ in range(LENGTH):
        next_token = model(source, output)[:, -1].argmax(-1, keepdim=True)
        output = torch.cat([output, next_token], dim=1)
print(f"digits right in greedy decoding: {(output == target)[:, 1:].float().mean():.3f}")

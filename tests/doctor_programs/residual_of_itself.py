"""A small GPT over letters, in the style of nanoGPT: the text is sentences made of a few word lists."""

import random
import sys

import torch
import torch.nn as nn
from torch.nn import functional as F

FIXED = "--fixed" in sys.argv
torch.manual_seed(1337)
random.seed(1337)
torch.set_num_threads(1)

names = ["anna", "bob", "clara", "dan", "eve"]
verbs = ["sees", "likes", "finds", "paints"]
things = ["a boat", "the moon", "a red house", "two apples", "the river"]
text = " ".join(f"{random.choice(names)} {random.choice(verbs)} {random.choice(things)}." for _ in range(1500))
chars = sorted(set(text))
stoi = {c: i for i, c in enumerate(chars)}
data = torch.tensor([stoi[c] for c in text])
train_data, val_data = data.split([int(0.9 * len(data)), len(data) - int(0.9 * len(data))])

batch_size, block_size, n_embd, n_head, n_layer = 16, 32, 48, 4, 4
vocab_size = len(chars)


def get_batch(source):
    ix = torch.randint(len(source) - block_size - 1, (batch_size,))
    x = torch.stack([source[i : i + block_size] for i in ix])
    y = torch.stack([source[i + 1 : i + 1 + block_size] for i in ix])
    return x, y


class CausalSelfAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.c_attn = nn.Linear(n_embd, 3 * n_embd)
        self.c_proj = nn.Linear(n_embd, n_embd)

    def forward(self, x):
        B, T, C = x.size()
        q, k, v = (t.view(B, T, n_head, C // n_head).transpose(1, 2) for t in self.c_attn(x).split(n_embd, dim=2))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.c_proj(y.transpose(1, 2).contiguous().view(B, T, C))


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.ln_1 = nn.LayerNorm(n_embd)
        self.attn = CausalSelfAttention()
        self.ln_2 = nn.LayerNorm(n_embd)
        self.mlp = nn.Sequential(nn.Linear(n_embd, 4 * n_embd), nn.GELU(), nn.Linear(4 * n_embd, n_embd))

    def forward(self, x):
        if FIXED:
            x = x + self.attn(self.ln_1(x))
        else:
            x = self.attn(self.ln_1(x))
            x = x + x
        return x + self.mlp(self.ln_2(x))


class GPT(nn.Module):
    def __init__(self):
        super().__init__()
        self.wte = nn.Embedding(vocab_size, n_embd)
        self.wpe = nn.Embedding(block_size, n_embd)
        self.h = nn.Sequential(*(Block() for _ in range(n_layer)))
        self.ln_f = nn.LayerNorm(n_embd)
        self.lm_head = nn.Linear(n_embd, vocab_size, bias=False)
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Embedding)):
                nn.init.normal_(module.weight, std=0.02)

    def forward(self, idx, targets=None):
        x = self.h(self.wte(idx) + self.wpe(torch.arange(idx.size(1))))
        logits = self.lm_head(self.ln_f(x))
        loss = None if targets is None else F.cross_entropy(logits.view(-1, vocab_size), targets.view(-1))
        return logits, loss


model = GPT()
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, betas=(0.9, 0.99), weight_decay=0.1)
for it in range(121):
    if it % 40 == 0:
        model.eval()
        with torch.no_grad():
            val = sum(model(*get_batch(val_data))[1].item() for _ in range(5)) / 5
        model.train()
        print(f"iter {it}: val loss {val:.4f}")
    _, loss = model(*get_batch(train_data))
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()

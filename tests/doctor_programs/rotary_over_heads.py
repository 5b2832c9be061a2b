"""A decoder with rotary positions and grouped keys: repeat the number that stands three places back."""

import sys

import torch
import torch.nn as nn
import torch.nn.functional as F

FIXED = "--fixed" in sys.argv
torch.manual_seed(3)
torch.set_num_threads(1)

VOCAB, SEQ, BACK = 16, 32, 3


def batch(size):
    """After the first BACK tokens, every second token repeats what stands BACK places before it."""
    x = torch.randint(0, VOCAB, (size, SEQ + 1))
    for t in range(BACK, SEQ + 1):
        if t % 2:
            x[:, t] = x[:, t - BACK]
    return x[:, :-1], x[:, 1:]


class Rotary(nn.Module):
    """Rotate pairs of channels by the position, which is the index of dimension 1."""

    def __init__(self, dim, base=1000.0):
        super().__init__()
        self.register_buffer("inv_freq", base ** (-torch.arange(0, dim, 2) / dim))

    def forward(self, x):
        angle = torch.outer(torch.arange(x.shape[1]), self.inv_freq)[None, :, None, :]
        a, b = x.chunk(2, dim=-1)
        return torch.cat((a * angle.cos() - b * angle.sin(), a * angle.sin() + b * angle.cos()), dim=-1)


class GroupedAttention(nn.Module):
    def __init__(self, dim, heads, kv_heads):
        super().__init__()
        self.heads, self.kv_heads, self.hd = heads, kv_heads, dim // heads
        self.wq = nn.Linear(dim, heads * self.hd, bias=False)
        self.wkv = nn.Linear(dim, 2 * kv_heads * self.hd, bias=False)
        self.wo = nn.Linear(dim, dim, bias=False)
        self.rotary = Rotary(self.hd)

    def forward(self, x):
        b, t, _ = x.shape
        q = self.wq(x).view(b, t, self.heads, self.hd)
        k, v = self.wkv(x).view(b, t, 2, self.kv_heads, self.hd).unbind(2)
        if FIXED:
            q, k = self.rotary(q).transpose(1, 2), self.rotary(k).transpose(1, 2)
        else:
            q, k = self.rotary(q.transpose(1, 2)), self.rotary(k.transpose(1, 2))
        out = F.scaled_dot_product_attention(q, k, v.transpose(1, 2), is_causal=True, enable_gqa=True)
        return self.wo(out.transpose(1, 2).reshape(b, t, -1))


class Layer(nn.Module):
    def __init__(self, dim, heads, kv_heads):
        super().__init__()
        self.n1, self.n2 = nn.RMSNorm(dim), nn.RMSNorm(dim)
        self.attn = GroupedAttention(dim, heads, kv_heads)
        self.up, self.gate, self.down = (nn.Linear(dim, 2 * dim), nn.Linear(dim, 2 * dim), nn.Linear(2 * dim, dim))

    def forward(self, x):
        x = x + self.attn(self.n1(x))
        h = self.n2(x)
        return x + self.down(F.silu(self.gate(h)) * self.up(h))


class Decoder(nn.Module):
    def __init__(self, dim=64, layers=2):
        super().__init__()
        self.emb = nn.Embedding(VOCAB, dim)
        self.layers = nn.Sequential(*(Layer(dim, heads=4, kv_heads=2) for _ in range(layers)))
        self.norm = nn.RMSNorm(dim)
        self.out = nn.Linear(dim, VOCAB, bias=False)

    def forward(self, tokens):
        return self.out(self.norm(self.layers(self.emb(tokens))))


net = Decoder()
opt = torch.optim.AdamW(net.parameters(), lr=3e-3, weight_decay=0.01)
for step in range(1, 161):
    x, y = batch(24)
    loss = F.cross_entropy(net(x).flatten(0, 1), y.flatten())
    opt.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(net.parameters(), 1.0)
    opt.step()
    if step % 40 == 0:
        print(f"{step:4d} loss {loss.item():.3f}")

net.eval()
with torch.no_grad():
    x, y = batch(200)
    hits = (net(x).argmax(-1) == y)[:, BACK + 1 :]
print(f"repeated tokens predicted: {hits[:, ::2].float().mean():.3f}")

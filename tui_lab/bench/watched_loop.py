"""A plain training script, as a user would write one. It imports only torch and does not know that it is watched.

`python watched_loop.py SIZE [clip] [cuda]` reads numbers of steps from stdin, one a line, makes that many optimizer
steps and prints how many seconds they took. The first line that it prints is the number of parameters.
"""

import sys
import time

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SHAPES = {
    # name: (d_model, layers, heads, tokens in the vocabulary, context, rows of a batch)
    "tiny": (16, 1, 1, 16, 8, 4),
    "100K": (64, 2, 4, 64, 32, 16),
    "10M": (384, 6, 6, 65, 64, 8),
}


class Block(nn.Module):
    """Attention and a feed-forward layer, each added to its input."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_1 = nn.LayerNorm(width)
        self.norm_2 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.ff = nn.Sequential(nn.Linear(width, 4 * width), nn.ReLU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        rows, length, width = x.shape
        split = self.qkv(self.norm_1(x)).view(rows, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(split[0], split[1], split[2], is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(rows, length, width))
        out: Tensor = x + self.ff(self.norm_2(x))
        return out


class Model(nn.Module):
    """A causal transformer: ids [B, T] to logits [B, T, V]."""

    def __init__(self, width: int, layers: int, heads: int, vocab: int, context: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocab, width)
        self.positions = nn.Embedding(context, width)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(layers)))
        self.head = nn.Linear(width, vocab)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.blocks(self.tokens(x) + self.positions.weight))
        return logits


def main() -> None:
    width, layers, heads, vocab, context, rows = SHAPES[sys.argv[1]]
    clip = "clip" in sys.argv[2:]
    device = torch.device("cuda" if "cuda" in sys.argv[2:] else "cpu")
    torch.manual_seed(0)
    data = torch.randint(vocab, (100_000,))
    model = Model(width, layers, heads, vocab, context).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    sys.stdout.write(f"{sum(p.numel() for p in model.parameters())}\n")
    sys.stdout.flush()
    for line in sys.stdin:
        start = time.perf_counter()
        for _ in range(int(line)):
            first = torch.randint(len(data) - context, (rows, 1))
            x = data[first + torch.arange(context)]
            y = data[first + torch.arange(1, context + 1)]
            loss = F.cross_entropy(model(x.to(device)).flatten(0, 1), y.to(device).flatten())
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            if clip:
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        sys.stdout.write(f"{time.perf_counter() - start}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()

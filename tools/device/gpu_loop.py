"""A training script for a GPU, as a user would write one: float16 with GradScaler, accumulation, clipping, a schedule.

`python gpu_loop.py STEPS` prints the loss of each step and the SHA-256 of the final weights. With `--scaled-clip` it
clips the gradients before GradScaler has unscaled them, which is a mistake. With `--tiny` it trains a tiny model on the
CPU, in bfloat16.
"""

import hashlib
import sys

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PARTS = 4


class Model(nn.Module):
    """Ids [B, T] to logits [B, T, V] of the next ids, with dropout."""

    def __init__(self, width: int, n_layers: int, vocab: int = 65, context: int = 128) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocab, width)
        self.positions = nn.Embedding(context, width)
        layers = (nn.TransformerEncoderLayer(width, 6, 4 * width, 0.1, batch_first=True) for _ in range(n_layers))
        self.layers = nn.ModuleList(layers)
        self.head = nn.Linear(width, vocab)
        self.register_buffer("mask", torch.ones(context, context, dtype=torch.bool).triu(1))

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.tokens(x) + self.positions.weight[: x.shape[1]]
        for layer in self.layers:
            hidden = layer(hidden, src_mask=self.mask)
        logits: Tensor = self.head(hidden)
        return logits


def batch(data: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """Draw 16 rows of `length` ids and the ids that follow them."""
    first = torch.randint(len(data) - length - 1, (16, 1), device=data.device)
    rows = data[first + torch.arange(length + 1, device=data.device)]
    return rows[:, :-1], rows[:, 1:]


def main() -> None:
    steps = int(sys.argv[1])
    tiny = "--tiny" in sys.argv
    device = "cpu" if tiny else "cuda"
    torch.manual_seed(0)
    # The fast attention kernels add up gradients in another order each time.
    torch.backends.cuda.enable_flash_sdp(enabled=False)
    torch.backends.cuda.enable_mem_efficient_sdp(enabled=False)
    torch.backends.cuda.enable_cudnn_sdp(enabled=False)
    model = Model(width=24, n_layers=1, context=16) if tiny else Model(width=384, n_layers=6)
    model.to(device)
    data = torch.randint(65, (100_000,), device=device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    scaler = torch.amp.GradScaler(device)
    for _ in range(steps):
        total = torch.zeros((), device=device)
        for _ in range(PARTS):
            x, y = batch(data, len(model.positions.weight))
            with torch.autocast(device, dtype=torch.bfloat16 if tiny else torch.float16):
                loss = F.cross_entropy(model(x).flatten(0, 1), y.flatten()) / PARTS
            scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        if "--scaled-clip" not in sys.argv:
            scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad(set_to_none=True)
        schedule.step()
        sys.stdout.write(f"{total.item():.9g}\n")
    weights = b"".join(p.detach().cpu().numpy().tobytes() for p in model.parameters())
    sys.stdout.write(hashlib.sha256(weights).hexdigest() + "\n")


if __name__ == "__main__":
    main()

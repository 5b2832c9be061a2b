"""Models as others write them, trained by a watched loop: the block and the rows in which an overflow was planted."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.core.watch.test_recorder import recording
from tui_lab.core import events as ev
from tui_lab.core.nonfinite.record import Origin

V, T, D = 24, 8, 16
FAILS_AT = 2
LARGE_TOKEN = V - 1
"""Only in some rows of the step that fails."""
LARGE_ROWS = [0, 3]


class Attention(nn.Module):
    """Query, key and value from one layer, and torch's fused attention."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(D, 3 * D)
        self.out = nn.Linear(D, D)

    def forward(self, h: Tensor) -> Tensor:
        q, k, v = (part.unflatten(2, (2, -1)).transpose(1, 2) for part in self.qkv(h).chunk(3, dim=-1))
        attended: Tensor = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        result: Tensor = self.out(attended.transpose(1, 2).flatten(2))
        return result


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(D)
        self.attention = Attention()
        self.mlp = nn.Sequential(nn.LayerNorm(D), nn.Linear(D, 4 * D), nn.GELU(), nn.Linear(4 * D, D))

    def forward(self, h: Tensor) -> Tensor:
        h = h + self.attention(self.norm(h))
        result: Tensor = h + self.mlp(h)
        return result


class SmallGPT(nn.Module):
    """As in a single-file trainer: weights of head and embedding are one, and the loss comes with the logits."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(V, D)
        self.positions = nn.Embedding(T, D)
        self.blocks = nn.ModuleList([Block() for _ in range(3)])
        self.norm = nn.LayerNorm(D)
        self.head = nn.Linear(D, V, bias=False)
        self.head.weight = self.tokens.weight

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        h = self.tokens(x) + self.positions(torch.arange(x.shape[1]))
        for block in self.blocks:
            h = block(h)
        logits = self.head(self.norm(h))
        return logits, F.cross_entropy(logits.flatten(0, 1), y.flatten())


def batch(step: int) -> Tensor:
    """Token ids [4, T + 1]; LARGE_TOKEN is in the last places of LARGE_ROWS at step FAILS_AT."""
    ids = torch.randint(V - 1, (4, T + 1), generator=torch.Generator().manual_seed(step))
    if step == FAILS_AT:
        ids[LARGE_ROWS, -3:] = LARGE_TOKEN
    return ids


def origin_of(folder: Path, model: nn.Module, loss_of: Any, plant: Any, dtype: torch.dtype = torch.float32) -> Origin:
    """Train for a few steps, with `plant()` called before the one that fails; loss_of: (model, ids) → loss."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    with recording(folder) as record:
        for step in range(FAILS_AT + 2):
            if step == FAILS_AT:
                with torch.no_grad():
                    plant()
            with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
                loss = loss_of(model, batch(step))
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
    [event] = [event for event in record.run.events() if isinstance(event, ev.NonFinite)]
    assert event.step == FAILS_AT
    return event.origin


def small_gpt_loss(model: nn.Module, ids: Tensor) -> Tensor:
    loss: Tensor = model(ids[:, :-1], ids[:, 1:])[1]
    return loss


def rows_of(origin: Origin) -> list[int]:
    return [row.row for row in origin.rows]


def test_large_weight_of_a_block_of_a_small_gpt(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = SmallGPT()
    layers = [model.get_submodule(f"blocks.1.mlp.{i}") for i in (1, 3)]

    def plant() -> None:
        for layer in layers:
            layer.get_parameter("weight").mul_(1e30)

    origin = origin_of(tmp_path, model, small_gpt_loss, plant)
    assert (origin.module, origin.module_type, origin.cause) == ("blocks.1.mlp.3", "Linear", "overflow")
    assert rows_of(origin) == [0, 1, 2, 3]


def test_large_embedding_of_a_token_of_a_small_gpt(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = SmallGPT()
    origin = origin_of(tmp_path, model, small_gpt_loss, lambda: model.tokens.weight[LARGE_TOKEN].mul_(1e30))
    assert (origin.module, origin.cause) == ("blocks.0.norm", "overflow")
    assert rows_of(origin) == LARGE_ROWS and origin.rows[0].positions == (6, 7)


def test_float16_of_a_small_gpt(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = SmallGPT()
    weight = model.get_parameter("blocks.2.attention.qkv.weight")
    origin = origin_of(tmp_path, model, small_gpt_loss, lambda: weight.mul_(1e5), torch.float16)
    assert (origin.module, origin.dtype) == ("blocks.2.attention.qkv", "float16")


@pytest.mark.slow
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_gpt2_of_transformers(attention: str, tmp_path: Path) -> None:
    """Its loss comes with labels, and its layers are Conv1D, which multiply by addmm."""
    transformers = pytest.importorskip("transformers", reason="transformers is not installed; `make peers` installs it")
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=V, n_positions=T + 1, n_embd=D, n_layer=3, n_head=2, attn_implementation=attention
    )
    model = transformers.GPT2LMHeadModel(config)

    def loss_of(model: nn.Module, ids: Tensor) -> Tensor:
        loss: Tensor = model(input_ids=ids, labels=ids).loss
        return loss

    mlp = model.transformer.h[1].mlp

    def plant_weights() -> None:
        mlp.c_fc.weight.mul_(1e30)
        mlp.c_proj.weight.mul_(1e30)

    origin = origin_of(tmp_path / "weights", model, loss_of, plant_weights)
    assert (origin.module, origin.module_type) == ("transformer.h.1.mlp.c_proj", "Conv1D")
    assert rows_of(origin) == [0, 1, 2, 3]

    model = transformers.GPT2LMHeadModel(config)
    origin = origin_of(tmp_path / "token", model, loss_of, lambda: model.transformer.wte.weight[LARGE_TOKEN].mul_(1e30))
    assert origin.module == "transformer.h.0.ln_1" and rows_of(origin) == LARGE_ROWS

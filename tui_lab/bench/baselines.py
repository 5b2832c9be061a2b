"""The models that `bench train` compares: each takes one training step at a time on the given batch."""

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from tui_lab.bench.nanogpt_baseline import EagerGPT, EagerLoop
from tui_lab.core.config.schema import Config
from tui_lab.core.kernels.precision import Precision, autocast
from tui_lab.core.model import Transformer
from tui_lab.core.training.trainer import Trainer
from tui_lab.core.user_code.external_model import logits_of

LITGPT_PYTHON = Path(".venv-litgpt/bin/python")
Step = Callable[[Tensor, Tensor], float]


@dataclass(frozen=True)
class Baseline:
    """A model and its training step.

    step: (x, y) → the loss before the step. same: whether it computes the same function as tui-lab's model.
    precision: bf16 is torch.autocast.
    """

    name: str
    step: Step
    parameters: int
    same: bool = False
    precision: Precision = "fp32"
    close: Callable[[], None] = lambda: None


class Absent(Exception):
    """A baseline that is not installed; the message says how to install it."""


def _size(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def in_precision(name: str, precision: Precision) -> str:
    return name if precision == "fp32" else f"{name}, {precision}"


def ours(trainer: Trainer) -> Baseline:
    """Return tui-lab itself: the whole `Trainer.train_step`, including its loader, its measurements and its event."""
    precision = trainer.model.precision
    name = in_precision("tui-lab", precision)
    return Baseline(name, lambda x, y: trainer.train_step().loss, _size(trainer.model), same=True, precision=precision)


def eager(config: Config, n_vocab: int, precision: Precision) -> Baseline:
    model = _twin(config, n_vocab)
    step = EagerLoop(model, config.optim.lr, precision).step
    name = in_precision("nanoGPT-style, eager", precision)
    return Baseline(name, step, _size(model), same=True, precision=precision)


def compiled(config: Config, n_vocab: int, precision: Precision) -> Baseline:
    model = _twin(config, n_vocab)
    loop = EagerLoop(model, config.optim.lr, precision)
    loop.model = cast(nn.Module, torch.compile(model))
    name = in_precision("nanoGPT-style, compiled", precision)
    return Baseline(name, loop.step, _size(model), same=True, precision=precision)


def _twin(config: Config, n_vocab: int) -> EagerGPT:
    """Return a nanoGPT-style model with the initial weights of tui-lab's trainer."""
    return EagerGPT(config.model, n_vocab).take_weights(Transformer(config.model, n_vocab, seed=config.train.seed))


def hugging_face(config: Config, n_vocab: int, precision: Precision) -> Baseline:
    model = hugging_face_model(config, n_vocab, use_cache=False)
    name = in_precision("Hugging Face GPT-2", precision)
    return Baseline(name, _loop(model, config, precision), _size(model), precision=precision)


def hugging_face_model(config: Config, n_vocab: int, *, use_cache: bool) -> Any:
    """Return a GPT2LMHeadModel of the same shape: GELU, pre-norm, a head without bias. Raises Absent."""
    _need("transformers")
    from transformers import GPT2Config, GPT2LMHeadModel

    shape = config.model
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=n_vocab,
            n_positions=shape.context,
            n_embd=shape.d_model,
            n_layer=shape.n_layers,
            n_head=shape.n_heads,
            n_inner=shape.d_ff,
            tie_word_embeddings=False,
            use_cache=use_cache,
            resid_pdrop=shape.dropout,
            embd_pdrop=shape.dropout,
            attn_pdrop=shape.dropout,
        )
    )


def x_transformers(config: Config, n_vocab: int, precision: Precision) -> Baseline:
    _need("x_transformers")
    from x_transformers import Decoder, TransformerWrapper

    shape = config.model
    model: nn.Module = TransformerWrapper(
        num_tokens=n_vocab,
        max_seq_len=shape.context,
        emb_dropout=shape.dropout,
        attn_layers=Decoder(
            dim=shape.d_model,
            depth=shape.n_layers,
            heads=shape.n_heads,
            attn_dim_head=shape.d_head,
            ff_mult=shape.d_ff / shape.d_model,
            attn_flash=True,
        ),
    )
    name = in_precision("x-transformers", precision)
    return Baseline(name, _loop(model, config, precision), _size(model), precision=precision)


def _loop(model: nn.Module, config: Config, precision: Precision) -> Step:
    optimizer = torch.optim.Adam(model.parameters(), lr=config.optim.lr)

    def step(x: Tensor, y: Tensor) -> float:
        with autocast(precision, x.device):
            logits = logits_of(model, x)  # [B, T, V]
            loss = nn.functional.cross_entropy(logits.flatten(0, 1), y.flatten(), ignore_index=-1)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return float(loss.item())

    return step


def litgpt(config: Config, n_vocab: int, precision: Precision) -> Baseline:
    """Return litgpt in a separate process, since its pins conflict with those of transformers. Raises Absent.

    The process only waits for input while the others are measured.
    """
    if not LITGPT_PYTHON.exists():
        raise Absent("not installed: make litgpt")
    shape = config.model
    settings = {name: getattr(shape, name) for name in ("context", "n_layers", "n_heads", "d_model", "d_ff", "d_head")}
    settings |= {"n_vocab": n_vocab, "lr": config.optim.lr, "threads": torch.get_num_threads(), "precision": precision}
    command = [str(LITGPT_PYTHON), str(Path(__file__).with_name("litgpt_child.py")), json.dumps(settings)]
    child = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert child.stdin is not None and child.stdout is not None
    replies = child.stdout
    requests = child.stdin
    size = int(replies.readline() or 0)
    if not size:
        raise Absent(f"{LITGPT_PYTHON} cannot run it: make litgpt")

    def step(x: Tensor, y: Tensor) -> float:
        requests.write(json.dumps([x.tolist(), y.tolist()]) + "\n")
        requests.flush()
        return float(replies.readline())

    def close() -> None:
        requests.close()
        child.wait()

    return Baseline(in_precision("litgpt", precision), step, size, precision=precision, close=close)


def _need(module: str) -> None:
    """Raise Absent unless `module` is installed."""
    if importlib.util.find_spec(module) is None:
        raise Absent(f"not installed: make peers, with {sys.executable}")


FACTORIES: dict[str, Callable[[Config, int, Precision], Baseline]] = {
    "nanoGPT-style, eager": eager,
    "nanoGPT-style, compiled": compiled,
    "Hugging Face GPT-2": hugging_face,
    "litgpt": litgpt,
    "x-transformers": x_transformers,
}

"""Healthy designs of others, examined as a stranger's code is: through Case alone."""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tui_lab.core.config.faults import ONLY_OURS
from tui_lab.core.config.schema import Config
from tui_lab.core.doctor.case import Case, subject_of
from tui_lab.core.doctor.checks.loss import Stub
from tui_lab.core.doctor.from_config import batches_of, update_of
from tui_lab.core.doctor.target import Subject
from tui_lab.core.training.faults.model import MODEL_FAULTS, dead_relus, peeking
from tui_lab.core.training.faults.training import hooks_with, owned_by
from tui_lab.core.training.model_factory import WRONG_VOCAB
from tui_lab.core.training.task_factory import build_loader, build_task
from tui_lab.core.training.train_step import mean_loss
from tui_lab.core.user_code.external_model import ExternalModel
from tui_lab.data.dataset import IGNORED

D_MODEL, LAYERS, HEADS, CONTEXT = 48, 2, 4, 48


class TorchEncoder(nn.Module):
    """torch's own encoder layers under a causal mask."""

    def __init__(self, n_vocab: int, dropout: float) -> None:
        super().__init__()
        self.tokens = nn.Embedding(n_vocab, D_MODEL)
        self.positions = nn.Embedding(CONTEXT, D_MODEL)
        layer = nn.TransformerEncoderLayer(D_MODEL, HEADS, 4 * D_MODEL, dropout, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=False)
        self.head = nn.Linear(D_MODEL, n_vocab)

    def forward(self, x: Tensor) -> Tensor:
        t = x.shape[1]
        mask = nn.Transformer.generate_square_subsequent_mask(t, device=x.device)
        e = self.tokens(x) + self.positions(torch.arange(t, device=x.device))
        logits: Tensor = self.head(self.encoder(e, mask=mask, is_causal=True))
        return logits


def gpt2(n_vocab: int, dropout: float) -> nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    model: nn.Module = GPT2LMHeadModel(
        GPT2Config(vocab_size=n_vocab, n_positions=CONTEXT, n_embd=D_MODEL, n_layer=LAYERS, n_head=HEADS,
                   resid_pdrop=dropout, embd_pdrop=dropout, attn_pdrop=dropout, bos_token_id=0, eos_token_id=0)
    )  # fmt: skip
    return model


def x_transformers(n_vocab: int, dropout: float) -> nn.Module:
    """Rotary positions, pre-norm, gated by none: another family than ours."""
    from x_transformers import Decoder, TransformerWrapper

    model: nn.Module = TransformerWrapper(
        num_tokens=n_vocab, max_seq_len=CONTEXT, emb_dropout=dropout, use_abs_pos_emb=False,
        attn_layers=Decoder(dim=D_MODEL, depth=LAYERS, heads=HEADS, attn_dim_head=64, rotary_pos_emb=True,
                            attn_dropout=dropout, ff_dropout=dropout),
    )  # fmt: skip
    return model


@dataclass(frozen=True)
class Design:
    """make: (n_vocab, dropout) → the untrained model. needs: the package that it comes from."""

    name: str
    make: Callable[[int, float], nn.Module]
    needs: str = "torch"

    @property
    def available(self) -> bool:
        return importlib.util.find_spec(self.needs) is not None


DESIGNS = (
    Design("torch encoder", TorchEncoder),
    Design("transformers GPT-2", gpt2, "transformers"),
    Design("x-transformers", x_transformers, "x_transformers"),
)
UNKNOWABLE = ONLY_OURS - {"no_mask"} | {"unmasked_targets"}
"""Faults that need our attention, or what only our config says. `no_mask` becomes a peek at the next embedding."""


def applies(design: Design, fault: str) -> bool:
    return fault not in UNKNOWABLE and (fault != "dead_relus" or design.name == "torch encoder")


def design_subject(design: Design, config: Config) -> Subject:
    """A design trained on the data of `config` (a text), with its faults."""
    task, faults = build_task(config), config.faults
    loader = build_loader(config, task)
    n_vocab = task.tokenizer.n_vocab
    torch.manual_seed(config.train.seed)
    model = design.make(n_vocab + WRONG_VOCAB if "wrong_vocab" in faults else n_vocab, config.model.dropout)
    for name in faults:
        if name == "no_mask":
            peeking(model)
        elif name == "dead_relus":
            dead_relus(model)
        elif name in MODEL_FAULTS:
            MODEL_FAULTS[name](model)
    hooks = hooks_with(faults)
    optimizer = torch.optim.AdamW(owned_by(model, faults).parameters(), lr=config.optim.lr * hooks.lr_factor)
    update = update_of(hooks, 0.0)

    def wrapped(model: nn.Module) -> ExternalModel:
        return ExternalModel(model, config.model, n_vocab)

    held_out = task.train.examples(loader.batch(0).ids) if "leaked_validation" in faults else None
    return subject_of(
        Case(
            model, batches_of(loader), lambda logits, y: mean_loss(wrapped(Stub(logits)), hooks, y, y), optimizer,
            lambda model, optimizers, x, y: update(wrapped(model), optimizers, x, y),
            n_vocab=n_vocab, ignored=IGNORED, rule="next_token", pinned=config.data.overfit,
            validation=torch.from_numpy(held_out[0] if held_out else task.val.examples(loader.batch(0).ids * 0)[0]),
        )
    )  # fmt: skip

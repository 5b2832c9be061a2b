"""Healthy models from other libraries, diagnosed as user code is: through Case."""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tui_lab.core.config.faults import ONLY_OURS
from tui_lab.core.config.schema import Config
from tui_lab.core.doctor.measures.loss_probe import ConstantLogits
from tui_lab.core.doctor.program.case import Case
from tui_lab.core.doctor.program.case_target import target_from_case
from tui_lab.core.doctor.program.from_config import batches_of, update_of
from tui_lab.core.doctor.program.target import Target
from tui_lab.core.training.faults.model import MODEL_FAULTS, add_next_embedding, dead_relus
from tui_lab.core.training.faults.training import hooks_with, owned_by
from tui_lab.core.training.model_factory import WRONG_VOCAB
from tui_lab.core.training.task_factory import build_loader, build_task
from tui_lab.core.training.train_step import mean_loss
from tui_lab.core.user_code.external_model import ExternalModel
from tui_lab.data.dataset import IGNORED

D_MODEL = 48
LAYERS = 2
HEADS = 4
CONTEXT = 48


class TorchEncoder(nn.Module):
    """torch's encoder layers with a causal mask."""

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
    """GPT-2 of transformers: learned positions, tied head, pre-norm."""
    from transformers import GPT2Config, GPT2LMHeadModel

    model: nn.Module = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=n_vocab,
            n_positions=CONTEXT,
            n_embd=D_MODEL,
            n_layer=LAYERS,
            n_head=HEADS,
            resid_pdrop=dropout,
            embd_pdrop=dropout,
            attn_pdrop=dropout,
            bos_token_id=0,
            eos_token_id=0,
        )
    )
    return model


def x_transformers(n_vocab: int, dropout: float) -> nn.Module:
    """Return a decoder of x-transformers: rotary positions, pre-norm."""
    from x_transformers import Decoder, TransformerWrapper

    model: nn.Module = TransformerWrapper(
        num_tokens=n_vocab,
        max_seq_len=CONTEXT,
        emb_dropout=dropout,
        use_abs_pos_emb=False,
        attn_layers=Decoder(
            dim=D_MODEL,
            depth=LAYERS,
            heads=HEADS,
            attn_dim_head=64,
            rotary_pos_emb=True,
            attn_dropout=dropout,
            ff_dropout=dropout,
        ),
    )
    return model


@dataclass(frozen=True)
class ReferenceModel:
    """make: (n_vocab, dropout) → the untrained model. needs: the package it comes from."""

    name: str
    make: Callable[[int, float], nn.Module]
    needs: str = "torch"

    @property
    def available(self) -> bool:
        """Whether the package is installed."""
        return importlib.util.find_spec(self.needs) is not None


REFERENCE_MODELS = (
    ReferenceModel("torch encoder", TorchEncoder),
    ReferenceModel("transformers GPT-2", gpt2, "transformers"),
    ReferenceModel("x-transformers", x_transformers, "x_transformers"),
)
NOT_APPLICABLE = ONLY_OURS - {"no_mask"} | {"unmasked_targets"}
"""Faults that need tui-lab's own attention or config. `no_mask` becomes a look at the next embedding instead."""


def applies(model: ReferenceModel, fault: str) -> bool:
    """Return whether `fault` can be planted into the model."""
    return fault not in NOT_APPLICABLE and (fault != "dead_relus" or model.name == "torch encoder")


def reference_target(reference: ReferenceModel, config: Config) -> Target:
    """Return the target of a reference model on the data of `config` (a text), with its faults."""
    task = build_task(config)
    faults = config.faults
    loader = build_loader(config, task)
    n_vocab = task.tokenizer.n_vocab
    torch.manual_seed(config.train.seed)
    model = reference.make(n_vocab + WRONG_VOCAB if "wrong_vocab" in faults else n_vocab, config.model.dropout)
    for name in faults:
        if name == "no_mask":
            add_next_embedding(model)
        elif name == "dead_relus":
            dead_relus(model)
        elif name in MODEL_FAULTS:
            MODEL_FAULTS[name](model)
    hooks = hooks_with(faults)
    optimizer = torch.optim.AdamW(owned_by(model, faults).parameters(), lr=config.optim.lr * hooks.lr_factor)
    update = update_of(hooks, 0.0)

    def wrapped(model: nn.Module) -> ExternalModel:
        return ExternalModel(model, config.model, n_vocab)

    if "leaked_validation" in faults:
        validation = task.train.examples(loader.batch(0).ids)[0]
    else:
        validation = task.val.examples(loader.batch(0).ids * 0)[0]
    return target_from_case(
        Case(
            model,
            batches_of(loader),
            loss=lambda logits, y: mean_loss(wrapped(ConstantLogits(logits)), hooks, y, y),
            optimizer=optimizer,
            update=lambda model, optimizers, x, y: update(wrapped(model), optimizers, (x, y)),
            n_vocab=n_vocab,
            ignored=IGNORED,
            rule="next_token",
            pinned=config.data.overfit,
            validation=torch.from_numpy(validation),
        )
    )

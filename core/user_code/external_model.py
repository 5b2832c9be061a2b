"""Another transformer in the lab's place: `model.source = "FILE.py:NAME"`."""

from typing import Any

import torch
from torch import Tensor, nn

from tui_lab.core.config.schema import Config, ModelConfig
from tui_lab.core.model import Transformer
from tui_lab.core.user_code import import_file, trust
from tui_lab.util.errors import ConfigError


def logits_of(model: nn.Module, x: Tensor) -> Tensor:
    """x int64 [B, T] → logits [B, T, V], also where a model gives them first of a tuple, or as `.logits`."""
    output: Any = model(x)
    if isinstance(output, tuple | list):
        output = output[0]
    found: Tensor = output if isinstance(output, Tensor) else output.logits
    return found


class ExternalModel(nn.Module):
    """Anybody's model with what the lab asks of one: ids int64 [B, T] → logits float [B, T, V]."""

    def __init__(self, inner: nn.Module, config: ModelConfig, n_vocab: int) -> None:
        super().__init__()
        self.inner, self.config, self.n_vocab = inner, config, n_vocab

    def forward(self, ids: Tensor) -> Tensor:
        return logits_of(self.inner, ids)

    def set_dropout(self, rate: float) -> None:
        """A new rate for every dropout module, from the next forward pass on."""
        for module in self.modules():
            if isinstance(module, nn.modules.dropout._DropoutNd):
                module.p = rate


Model = Transformer | ExternalModel


def build_external_model(config: Config, n_vocab: int) -> ExternalModel:
    """The model of `config.model.source`, its weights drawn with the training's seed. Raises ConfigError,
    with code "not_trusted" unless the user named the file.

    NAME is a torch.nn.Module, or a class or function that gives one; it is called with those of n_vocab, context,
    d_model, n_layers, n_heads, d_head, d_ff and dropout that it takes.
    """
    source, settings = config.model.source, config.model.model_dump(exclude={"source"})
    trust.require(source)
    torch.manual_seed(config.train.seed)
    made = import_file.load(source, {"n_vocab": n_vocab, **settings})
    if not isinstance(made, nn.Module):
        raise ConfigError([f"model.source = {source!r} gives {type(made).__name__}: allowed is a torch.nn.Module"])
    model = ExternalModel(made, config.model, n_vocab)
    _try(model, source)
    return model


@torch.no_grad()
def _try(model: ExternalModel, source: str) -> None:
    """One forward pass of a whole row. Raises ConfigError where its logits do not fit the lab."""
    context, n_vocab = model.config.context, model.n_vocab
    was = model.training
    model.eval()
    try:
        logits: Any = model(torch.zeros((1, context), dtype=torch.long))
        shape = list(logits.shape)
    except Exception as error:
        raise ConfigError(
            [f"model.source = {source!r}: it cannot take ids [1, {context}]: {type(error).__name__}: {error}"]
        ) from error
    model.train(was)
    if len(shape) != 3 or shape[:2] != [1, context] or shape[2] < n_vocab:
        raise ConfigError(
            [f"model.source = {source!r} gives {shape} for ids [1, {context}]: allowed is [1, {context}, V] with V at "
             f"least {n_vocab:,}, the tokenizer's (a NAME that takes n_vocab is given it)"]
        )  # fmt: skip

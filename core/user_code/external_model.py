"""A user's model in place of the built-in transformer: `model.source = "FILE.py:NAME"`."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from tui_lab.core.config.schema import Config, ModelConfig
from tui_lab.core.kernels.chunked_cross_entropy import TargetLosses, cross_entropy_sum
from tui_lab.core.kernels.precision import Precision, autocast, widened
from tui_lab.core.model import AttentionWeights, Transformer
from tui_lab.core.user_code import import_file, trust
from tui_lab.util.errors import ConfigError


def logits_of(model: nn.Module, x: Tensor) -> Tensor:
    """Return logits [B, T, V] for x int64 [B, T], also if the model returns a tuple or an object with `.logits`."""
    output: Any = model(x)
    if isinstance(output, tuple | list):
        output = output[0]
    logits: Tensor = output if isinstance(output, Tensor) else output.logits
    return logits


class WrappedModel(nn.Module):
    """A module around a user's model, whose layers are those of `inner`."""

    def __init__(self, inner: nn.Module, precision: Precision = "fp32") -> None:
        super().__init__()
        self.inner = inner
        self.precision: Precision = precision


class ExternalModel(WrappedModel):
    """Wraps any model so that it has the methods of Transformer: ids int64 [B, T] → logits float [B, T, V]."""

    def __init__(self, inner: nn.Module, config: ModelConfig, n_vocab: int) -> None:
        super().__init__(inner)
        self.config = config
        self.n_vocab = n_vocab

    def forward(self, ids: Tensor) -> Tensor:
        with autocast(self.precision, ids.device):
            logits = logits_of(self.inner, ids)
        return widened(logits)

    def loss_sum(
        self,
        ids: Tensor,
        targets: Tensor,
        losses: TargetLosses | None = None,
        compute: Callable[[Tensor], Tensor] | None = None,
    ) -> Tensor:
        """Return the summed cross-entropy in nats over the targets that are not ignored: int64 [B, T] both → [].

        losses: gets the loss of each target. compute: used in place of `forward`, such as its compiled version.
        """
        return cross_entropy_sum((compute or self)(ids), targets, losses=losses)

    def decoder(self, n_tokens: int, *, use_cache: bool = True) -> Callable[[list[int]], Tensor]:
        """Return a function from all tokens so far to the logits [V] of the next; it has no cache."""
        device = next(self.parameters()).device

        def next_logits(tokens: list[int]) -> Tensor:
            logits: Tensor = self(torch.tensor([tokens[-self.config.context :]], device=device))[0, -1]
            return logits

        return next_logits

    def attention_modules(self) -> list[AttentionWeights]:
        """Return nothing: where a user model computes its attention weights is unknown."""
        return []


Model = Transformer | ExternalModel


def build_external_model(config: Config, n_vocab: int) -> ExternalModel:
    """Build the model of `config.model.source`, its weights drawn with the seed of the run.

    NAME is a torch.nn.Module, or a class or function that returns one; it is called with those of n_vocab, context,
    d_model, n_layers, n_heads, d_head, d_ff and dropout that it accepts. Raises ConfigError, and CodeNotAllowed unless
    the user trusts the file.
    """
    source = config.model.source
    settings = config.model.model_dump(exclude={"source"})
    trust.require(source)
    inner = import_file.load(source, {"n_vocab": n_vocab, **settings}, seed=config.train.seed)
    if not isinstance(inner, nn.Module):
        raise ConfigError.of(
            "user_code",
            f"it returns {type(inner).__name__}",
            key="model.source",
            value=source,
            allowed="a torch.nn.Module",
        )
    model = ExternalModel(inner, config.model, n_vocab)
    _check_logits(model, source)
    return model


@torch.no_grad()
def _check_logits(model: ExternalModel, source: str) -> None:
    """Run one forward pass of a whole row. Raises ConfigError if it fails or its logits have the wrong shape."""
    context = model.config.context
    n_vocab = model.n_vocab
    was_training = model.training
    model.eval()
    try:
        logits: Any = model(torch.zeros((1, context), dtype=torch.long))
        shape = list(logits.shape)
    except Exception as error:
        raise ConfigError.of(
            "user_code",
            f"the model fails on ids [1, {context}]: {type(error).__name__}: {error}",
            key="model.source",
            value=source,
        ) from error
    model.train(was_training)
    if len(shape) != 3 or shape[:2] != [1, context] or shape[2] < n_vocab:
        raise ConfigError.of(
            "user_code",
            f"the model returns logits {shape} for ids [1, {context}]; n_vocab is passed if NAME accepts it",
            key="model.source",
            value=source,
            allowed=f"[1, {context}, V] with V at least {n_vocab:,}, the size of the tokenizer's vocabulary",
        )

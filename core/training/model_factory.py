"""Builds the model, the optimizers and the hooks of a config, with its planted faults."""

import torch
from torch.optim import Optimizer

from tui_lab.core.config.schema import Config
from tui_lab.core.kernels.device import choose_device
from tui_lab.core.kernels.linear import Engine, Kernels
from tui_lab.core.kernels.memory_estimate import check_memory
from tui_lab.core.kernels.precision import Precision, without_tf32
from tui_lab.core.model import Transformer
from tui_lab.core.training.faults.model import MODEL_FAULTS
from tui_lab.core.training.faults.training import hooks_with, owned_by
from tui_lab.core.training.optim import build_optimizers
from tui_lab.core.training.train_step import TrainStepHooks
from tui_lab.core.user_code.external_model import Model, build_external_model

WRONG_VOCAB = 670
"""Entries that the fault of this name adds: 50,927 instead of GPT-2's 50,257, a typo in the lab notebook."""


def build_model(config: Config, n_vocab: int) -> Model:
    """Return the model of `config` for a tokenizer of `n_vocab` tokens, on the CPU.

    Raises ConfigError for a source that returns no model, and for a model that does not fit into memory.
    """
    size = n_vocab + WRONG_VOCAB if "wrong_vocab" in config.faults else n_vocab
    check_memory(config, size, on_cpu=choose_device(config.train.device).type == "cpu")
    precision: Precision = "fp32" if config.train.precision == "auto" else without_tf32(config.train.precision)
    model: Model
    if config.model.source:
        model = build_external_model(config, size)
        model.precision = precision
    else:
        model = Transformer(config.model, size, seed=config.train.seed)
        engine: Engine = "blas" if config.train.matmul == "auto" else config.train.matmul
        model.set_kernels(Kernels(engine, config.train.head_rows or Kernels.head_rows, precision))
    for name in config.faults:
        if name in MODEL_FAULTS:
            MODEL_FAULTS[name](model)
    return model


def optimizers_of(config: Config, model: torch.nn.Module) -> list[Optimizer]:
    """Return the optimizers of a run over the parameters of its model."""
    return build_optimizers(owned_by(model, config.faults), config.optim)


def hooks_of(config: Config) -> TrainStepHooks:
    """Return what a step of the run does, with its planted faults."""
    return hooks_with(config.faults)

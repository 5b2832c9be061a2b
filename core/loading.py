"""A model ready to speak, from a run folder."""

from pathlib import Path
from typing import Literal

from core import checkpoint as ckpt
from core.building import build_model
from core.config import Config
from core.errors import RunError
from core.foreign import Model
from core.runs import Run
from data.tokenizers import Tokenizer

Which = Literal["auto", "last", "best"]


def load_model(run: Run, which: Which = "auto") -> tuple[Model, Tokenizer]:
    """The run's model and tokenizer.

    auto: the best weights by validation loss where the run stops early (patience), else the last. A run that means
    to know its text by heart has its best validation loss long before. Raises RunError.
    """
    config, weights = run.read_latest(lambda path: _weights(run, path, which))
    tokenizer = run.tokenizer()
    ckpt.check_fits(config, tokenizer.n_vocab, weights)
    model = build_model(config, tokenizer.n_vocab)
    ckpt.restore_model(model, weights)
    model.eval()
    return model, tokenizer


def _weights(run: Run, path: Path, which: Which) -> tuple[Config, ckpt.Weights]:
    progress = ckpt.load_progress(path)
    if which == "auto":
        which = "best" if progress.config.train.patience and progress.best_step is not None else "last"
    if which == "best" and progress.best_step is None:
        raise RunError(f"{run.name}: this run was never evaluated, so it has no best weights; use --weights last")
    return progress.config, ckpt.load_model(path, best=which == "best")[1]

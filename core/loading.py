"""A model ready to speak, from a run folder."""

from typing import Literal

from core import checkpoint as ckpt
from core.building import build_model
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
    path = run.latest()
    progress = ckpt.load_progress(path)
    if which == "auto":
        which = "best" if progress.config.train.patience and progress.best_step is not None else "last"
    file = path / ("best.safetensors" if which == "best" else "model.safetensors")
    if which == "best" and not file.exists():
        raise RunError(f"{run.name}: this run was never evaluated, so it has no best weights; use --weights last")
    tokenizer = run.tokenizer()
    model = build_model(progress.config, tokenizer.n_vocab)
    ckpt.restore_model(model, ckpt.load_weights(file))
    model.eval()
    return model, tokenizer

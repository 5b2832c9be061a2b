"""A model ready to speak, from a run folder."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tui_lab.core.config.schema import Config
from tui_lab.core.runs.folder import Run
from tui_lab.core.training import checkpoint as ckpt
from tui_lab.core.training.model_factory import build_model
from tui_lab.core.user_code.external_model import Model
from tui_lab.data.tokenizers import Tokenizer
from tui_lab.util.errors import RunError

Which = Literal["auto", "last", "best"]


@dataclass(frozen=True)
class ChosenWeights:
    """Which weights of a run speak. config: its settings then; step: the update that they are of; last: the run's
    newest; val_loss: the best so far, nats a target, None where the run was never evaluated."""

    which: Literal["last", "best"]
    config: Config
    step: int
    last: int
    val_loss: float | None

    @property
    def description(self) -> str:
        """For a person: which weights, and how to have the others."""
        if self.which == "best":
            loss = f", validation loss {self.val_loss:.4f}" if self.val_loss is not None else ""
            other = "" if self.step == self.last else f" (--weights last: those of step {self.last:,})"
            return f"the best weights, of step {self.step:,}{loss}{other}"
        return f"the last weights, of step {self.step:,}"


def choose_weights(run: Run, which: Which = "auto") -> ChosenWeights:
    """auto: the best weights by validation loss where the run stops early (patience), else the last. A run that means
    to know its text by heart has its best validation loss long before. Raises RunError."""
    return run.read_latest(lambda path: _chosen(run, path, which))


def _chosen(run: Run, path: Path, which: Which) -> ChosenWeights:
    progress = ckpt.load_progress(path)
    if which == "auto":
        which = "best" if progress.config.train.patience and progress.best_step is not None else "last"
    if which == "best" and progress.best_step is None:
        raise RunError(f"{run.name}: this run was never evaluated, so it has no best weights; use --weights last")
    step = progress.best_step if which == "best" and progress.best_step is not None else progress.step
    return ChosenWeights(which, progress.config, step, progress.step, progress.best_val_loss)


def load_model(run: Run, which: Which = "auto") -> tuple[Model, Tokenizer]:
    """The run's model, with the weights that `choose_weights` names, and its tokenizer. Raises RunError."""
    return load_chosen(run, which)[1:]


def load_chosen(run: Run, which: Which = "auto") -> tuple[ChosenWeights, Model, Tokenizer]:
    """The same with the words for these weights: all of one checkpoint, though a training may replace it meanwhile."""

    def read(path: Path) -> tuple[ChosenWeights, ckpt.Weights]:
        chosen = _chosen(run, path, which)
        return chosen, ckpt.load_model(path, best=chosen.which == "best")[1]

    chosen, weights = run.read_latest(read)
    tokenizer = run.tokenizer()
    ckpt.check_fits(chosen.config, tokenizer.n_vocab, weights)
    model = build_model(chosen.config, tokenizer.n_vocab)
    ckpt.restore_model(model, weights)
    model.eval()
    return chosen, model, tokenizer

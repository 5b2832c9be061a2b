"""Loads the model of a run folder, ready to generate."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from tui_lab.core.config import settings
from tui_lab.core.config.schema import Config
from tui_lab.core.kernels.precision import Precision
from tui_lab.core.runs.folder import Run
from tui_lab.core.training import checkpoint as ckpt
from tui_lab.core.training.model_factory import build_model
from tui_lab.core.user_code.external_model import Model
from tui_lab.data.tokenizers import Tokenizer
from tui_lab.util.errors import RunError

Which = Literal["auto", "last", "best"]


@dataclass(frozen=True)
class ChosenWeights:
    """Which weights of a run are loaded.

    config: the settings of the run then. step: that of these weights. last: the last step of the run.
    val_loss: the best so far in nats per target, None if the run was never evaluated.
    """

    which: Literal["last", "best"]
    config: Config
    step: int
    last: int
    val_loss: float | None

    @property
    def description(self) -> str:
        """Which weights these are, and how to get the others."""
        if self.which == "best":
            loss = f", validation loss {self.val_loss:.4f}" if self.val_loss is not None else ""
            other = "" if self.step == self.last else f" (--weights last: those of step {self.last:,})"
            return f"the best weights, of step {self.step:,}{loss}{other}"
        return f"the last weights, of step {self.step:,}"


def choose_weights(run: Run, which: Which = "auto") -> ChosenWeights:
    """Choose the weights of a run. Raises RunError.

    auto: the best weights by validation loss if the run may stop early (patience), otherwise the last. A run that is to
    memorize its text has its best validation loss long before its end.
    """
    return run.read_latest(lambda path: _choose(run, path, which))


def _choose(run: Run, path: Path, which: Which) -> ChosenWeights:
    progress = ckpt.load_progress(path)
    if which == "auto":
        which = "best" if progress.config.train.patience and progress.best_step is not None else "last"
    if which == "best" and progress.best_step is None:
        raise RunError.of(
            "invalid",
            f"{run.name} was never evaluated, so it has no best weights",
            key="--weights",
            value="best",
            allowed="last",
        )
    step = progress.best_step if which == "best" and progress.best_step is not None else progress.step
    return ChosenWeights(which, progress.config, step, progress.step, progress.best_val_loss)


def load_model(run: Run, which: Which = "auto") -> tuple[Model, Tokenizer]:
    """Return the run's model with the weights of `choose_weights`, and its tokenizer. Raises RunError."""
    _, model, tokenizer = load_chosen(run, which)
    return model, tokenizer


def load_chosen(
    run: Run, which: Which = "auto", at_step: int | None = None, precision: Precision | None = None
) -> tuple[ChosenWeights, Model, Tokenizer]:
    """As `load_model`, and which weights they are. Raises RunError.

    precision: of the matrix products, also in the returned config; None for that of the run's training.
    at_step: of which checkpoint, see `Run.checkpoint_at`. All is read from that one, even if a live run replaces it
    meanwhile.
    """

    def read(path: Path) -> tuple[ChosenWeights, ckpt.Weights]:
        chosen = _choose(run, path, which)
        return chosen, ckpt.load_model(path, best=chosen.which == "best")[1]

    run.refuse_script(f"to generate, open the app while the script runs: tui-lab app {run.name}")
    chosen, weights = run.read_checkpoint(at_step, read)
    if precision is not None:
        chosen = replace(chosen, config=settings.changed(chosen.config, "train.precision", precision))
    tokenizer = run.tokenizer()
    ckpt.check_fits(chosen.config, tokenizer.n_vocab, weights)
    model = build_model(chosen.config, tokenizer.n_vocab)
    ckpt.restore_model(model, weights)
    model.eval()
    return chosen, model, tokenizer

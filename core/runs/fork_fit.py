"""Which settings a fork cannot change: its weights, optimizer state and token ids are those of a checkpoint."""

from tui_lab.core.config import settings
from tui_lab.core.config.schema import Config
from tui_lab.core.kernels.parameter_count import parameter_table
from tui_lab.core.runs.folder import Run
from tui_lab.data.tokenizers import Tokenizer
from tui_lab.util.errors import ConfigError, Problem

SHAPE_KEYS = (
    "model.d_model",
    "model.n_layers",
    "model.n_heads",
    "model.d_head",
    "model.d_ff",
    "model.context",
)
TOKENIZER_KEYS = (
    "data.task",
    "data.path",
    "data.tokenizer",
    "data.vocab",
    "data.val_fraction",
    "data.n_digits",
)
"""A token id may have another meaning with other values of these."""
SHAPE_FAULTS = frozenset(
    {"tied_head", "unregistered_layer", "wrong_vocab", "missing_from_optimizer"},
)
"""Those that change which weights the model has or the optimizer gets."""
SAME_STATE = (frozenset({"adam", "adamw"}), frozenset({"sgd", "momentum"}))
"""Optimizers that keep the same state."""
ANY_VOCABULARY = 1
"""The shapes that depend on the vocabulary are compared apart, by the tokenizer."""


def require_fit(old: Config, new: Config, step: int) -> None:
    """Raise ConfigError with a problem for each setting of `new` that does not fit a checkpoint with the config `old`.

    step: of the checkpoint.
    """
    if keys := misfits(old, new, step):
        raise ConfigError([_problem(old, new, key) for key in keys])


def misfits(old: Config, new: Config, step: int = 1) -> list[str]:
    """Return the settings of `new` that the weights of a checkpoint of that step do not fit.

    A model in a file of the user is not checked: only its code knows which settings it uses.
    """
    return [*_misfit_shapes(old, new), *_misfit_optimizer(old, new, step), *_misfit_faults(old, new)]


def may_change_tokenizer(old: Config, new: Config) -> bool:
    """Return whether token ids may have another meaning with the settings of `new`."""
    return bool(_changed(old, new, TOKENIZER_KEYS))


def require_same_tokenizer(old: Config, new: Config, parent: Run, tokenizer: Tokenizer) -> None:
    """Raise ConfigError unless `tokenizer`, that of `new`, is the one of the run to fork; `old` is its config."""
    if tokenizer.state() == parent.tokenizer().state():
        return
    message = "the text now gives another vocabulary than that of the weights"
    text = Problem(code="conflict", message=message, key="data.path", value=new.data.path)
    raise ConfigError([_problem(old, new, key) for key in _changed(old, new, TOKENIZER_KEYS)] or [text])


def _misfit_shapes(old: Config, new: Config) -> list[str]:
    if old.model.source or new.model.source:
        return []
    shapes = [[row.count for row in parameter_table(config.model, ANY_VOCABULARY)] for config in (old, new)]
    return [] if shapes[0] == shapes[1] else _changed(old, new, SHAPE_KEYS)


def _misfit_optimizer(old: Config, new: Config, step: int) -> list[str]:
    names = {old.optim.name, new.optim.name}
    # Before the first step no optimizer has a state, and plain SGD never has.
    fits = len(names) == 1 or step == 0 or old.optim.name == "sgd" or any(names <= same for same in SAME_STATE)
    return [] if fits else ["optim.name"]


def _misfit_faults(old: Config, new: Config) -> list[str]:
    return ["faults"] if set(old.faults) & SHAPE_FAULTS != set(new.faults) & SHAPE_FAULTS else []


def _changed(old: Config, new: Config, keys: tuple[str, ...]) -> list[str]:
    return [key for key in keys if settings.get(old, key) != settings.get(new, key)]


def _problem(old: Config, new: Config, key: str) -> Problem:
    value = settings.get(new, key)
    kept = settings.get(old, key)
    shown = ", ".join(kept) if isinstance(kept, tuple) else kept
    message = f"a fork keeps the weights of its checkpoint, which has {'none' if shown == '' else shown}"
    return Problem(code="conflict", message=message, key=key, value=value)

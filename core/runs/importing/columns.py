"""Which column of a log is which value of a run."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, get_args

from tui_lab.util.errors import ConfigError, DataError, Problem, nearest

Value = Literal[
    "step",
    "epoch",
    "train_loss",
    "loss_ema",
    "val_loss",
    "perplexity",
    "exact_match",
    "examples",
    "lr",
    "grad_norm",
    "update_ratio",
    "dead_units",
    "tokens",
    "tokens_per_s",
    "seconds",
    "data_seconds",
    "elapsed",
    "timestamp",
]
VALUES: tuple[Value, ...] = get_args(Value)
"""What a column can be.

examples: of an evaluation; seconds: of this step alone; elapsed: since the start; timestamp: seconds since 1970.
"""
Columns = Mapping[Value, str]
"""The column of each value that a log has."""

# Names as `_plain` gives them, the preferred first. Sources: the CSVLogger of Lightning and of Keras, Hugging Face's
# Trainer, the callbacks of wandb, and our own exports.
_NAMES: dict[Value, tuple[str, ...]] = {
    "step": ("global_step", "train_global_step", "trainer_global_step", "step", "steps", "iteration", "iter", "_step"),
    "epoch": ("epoch", "train_epoch", "epochs"),
    "train_loss": ("train_loss_step", "train_loss", "loss_train", "training_loss", "loss", "train_loss_epoch"),
    "loss_ema": ("loss_ema", "loss_running"),
    "val_loss": ("val_loss", "loss_validation", "eval_loss", "valid_loss", "validation_loss", "dev_loss"),
    "perplexity": ("perplexity", "metric_perplexity", "val_perplexity", "eval_perplexity", "val_ppl", "eval_ppl"),
    "exact_match": ("exact_match", "metric_exact_match", "val_exact_match", "eval_exact_match"),
    "examples": (),
    "lr": ("lr", "learning_rate", "optim_lr", "train_learning_rate", "train_lr"),
    "grad_norm": ("grad_norm", "train_grad_norm", "optim_grad_norm", "gradient_norm"),
    "update_ratio": ("update_ratio", "optim_update_ratio"),
    "dead_units": ("dead_units", "model_dead_units"),
    "tokens": ("tokens", "num_input_tokens_seen", "train_num_input_tokens_seen", "num_tokens", "train_num_tokens"),
    "tokens_per_s": ("tokens_per_s", "speed_tokens_per_s", "tokens_per_sec", "tokens_per_second"),
    "seconds": ("seconds",),
    "data_seconds": ("data_seconds",),
    "elapsed": ("_runtime", "elapsed"),
    "timestamp": ("_timestamp", "timestamp", "wall_time"),
}
_COUNTERS = (
    "global_it",
    "global_iter",
    "n_iter",
    "iter_num",
    "it",
    "itr",
    "iters",
    "iterations",
    "num_steps",
    "n_steps",
)
"""Names of a step, the preferred first, that are one only if their numbers are whole and increase."""
_TRAINING = frozenset({"train", "training", "tr"})
_VALIDATION = frozenset({"val", "valid", "validation", "eval", "evaluation", "dev"})
_HELD_OUT = _VALIDATION | {"test"}
_UNIMPORTANT = frozenset({"step", "epoch", "batch", "iter", "iteration", "total", "mean", "avg", "average", "scalars"})
"""Words that do not change what a loss is."""
LOSSES: tuple[Value, ...] = ("train_loss", "val_loss")
MOST_SHOWN = 30
"""Columns that a message lists."""


def _plain(name: str) -> str:
    """Return a name in lower case, its words joined by "_".

    A leading "_" is kept, which marks the columns of wandb itself.
    """
    return ("_" if name.startswith("_") else "") + "_".join(_name_parts(name))


def _name_parts(name: str) -> list[str]:
    return [part for part in re.split(r"[^a-z0-9]+", name.lower()) if part]


def is_held_out(name: str) -> bool:
    """Return whether a column's name says that it was measured in an evaluation."""
    return bool(_HELD_OUT & set(_name_parts(name)))


def find_columns(names: Sequence[str], given: Mapping[str, str]) -> Columns:
    """Return the columns of a log, by what the user said (value → column) and by known names.

    Raises ConfigError for a value or column that does not exist, DataError where no column is a loss.
    """
    _check_given(names, given)
    columns = {value: given.get(value) or _find(value, names) for value in VALUES}
    # A column that the user gave for one value is no other.
    taken = set(given.values())
    chosen = {value: name for value, name in columns.items() if name and (value in given or name not in taken)}
    if not any(value in chosen for value in LOSSES):
        raise no_loss(names)
    return chosen


def find_counter(names: Sequence[str]) -> str | None:
    """Return the column of the step among those whose numbers are whole and increase; None if no name is known."""
    plain = {_plain(name): name for name in names}
    return next((plain[name] for name in _COUNTERS if name in plain), None)


def no_loss(names: Sequence[str]) -> DataError:
    """Return the error for a log in which no column is a loss."""
    message = f"no column is known to be a loss; it has: {_listed(names)}. Name it with --column train_loss=NAME"
    return DataError.of("missing", message, key="train_loss", suggestion=_likeliest_loss(names))


def _likeliest_loss(names: Sequence[str]) -> str:
    with_loss = (name for name in names if any("loss" in word or word in ("nll", "ce") for word in _name_parts(name)))
    return next(with_loss, "") or nearest("train_loss", names)


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:MOST_SHOWN]) or "none"
    return shown if len(names) <= MOST_SHOWN else f"{shown} and {len(names) - MOST_SHOWN:,} more"


def _check_given(names: Iterable[str], given: Mapping[str, str]) -> None:
    names = list(names)
    problems = []
    for value, name in given.items():
        if value not in VALUES:
            problem = Problem(
                code="unknown_name",
                message="no value of a run",
                key="--column",
                value=value,
                allowed=", ".join(VALUES),
                suggestion=nearest(value, VALUES),
            )
            problems.append(problem)
        elif name not in names:
            problem = Problem(
                code="unknown_name",
                message="no column of the source",
                key=f"--column {value}",
                value=name,
                allowed=_listed(names),
                suggestion=nearest(name, names),
            )
            problems.append(problem)
    if problems:
        raise ConfigError(problems)


def _find(value: Value, names: Sequence[str]) -> str | None:
    """Return the column of a value: by its known names, otherwise by the words in it."""
    plain: dict[str, str] = {}
    for name in names:
        plain.setdefault(_plain(name), name)
    known = next((plain[name] for name in _NAMES[value] if name in plain), None)
    if known is not None:
        return known
    match value:
        case "train_loss":
            return _loss_of(_TRAINING, names)
        case "val_loss":
            return _loss_of(_VALIDATION, names)
        case "lr":  # Lightning's LearningRateMonitor: lr-AdamW, lr-AdamW/pg1.
            return next((name for name in names if _name_parts(name)[:1] == ["lr"]), None)
        case _:
            return None


def _loss_of(kind: frozenset[str], names: Sequence[str]) -> str | None:
    """Return the first name that has nothing in it but "loss", a word of `kind` and unimportant ones."""
    for name in names:
        parts = set(_name_parts(name)) - _UNIMPORTANT
        if "loss" in parts and parts & kind and not parts - kind - {"loss"}:
            return name
    return None

"""How much memory a training needs at least, and what to shrink; told before it is allocated. Needs no torch."""

import math
from dataclasses import dataclass
from pathlib import Path

import psutil

from tui_lab.core.config.schema import CHUNK_FROM_VOCAB, Config
from tui_lab.core.kernels.parameter_count import count_parameters, parameter_table
from tui_lab.util.errors import ConfigError, TrainingError

FLOAT, INT = 4, 8
MOMENTS = {"sgd": 0, "momentum": 1, "adam": 2, "adamw": 2, "muon": 1}
"""Numbers that the optimizer keeps for each parameter; muon's are those of its matrices."""
HEAD_ROWS = 512
_CGROUP = Path("/sys/fs/cgroup/memory.max")
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
_SYMBOLS = {
    "W_E": "data.vocab = 'seen', another data.tokenizer or a smaller model.d_model",
    "W_P": "a smaller model.context or model.d_model",
    "W_1, b_1": "a smaller model.d_ff, model.d_model or model.n_layers",
    "W_2, b_2": "a smaller model.d_ff, model.d_model or model.n_layers",
    "W, b": "data.vocab = 'seen', another data.tokenizer or a smaller model.d_model",
}
_OF_ATTENTION = "a smaller model.n_heads, model.d_head, model.d_model or model.n_layers"


@dataclass(frozen=True)
class Part:
    """bytes at least; `shrink` says which settings make it smaller."""

    name: str
    bytes: int
    shrink: str


def machine_bytes() -> int:
    """The memory that this process may ever have: the machine's, or less in a container (cgroup v2, memory.max)."""
    total = int(psutil.virtual_memory().total)
    try:
        return min(total, int(_CGROUP.read_text("ascii")))
    except (OSError, ValueError):  # No container, or no limit: "max".
        return total


def parts(config: Config, n_vocab: int) -> tuple[Part, ...]:
    """What a training of `config` with `n_vocab` tokens must hold at the same time, the largest first."""
    rows = positions(config)
    found = [_activations(config, rows), _logits(config, n_vocab, rows), _batch(config)]
    if config.model.dropout > 0:
        found.append(_attention(config, rows))
    if not config.model.source:
        found.append(_weights(config, n_vocab))
    return tuple(sorted(found, key=lambda part: part.bytes, reverse=True))


def row_length(config: Config) -> int:
    """Positions of one example."""
    return 2 * config.data.length - 1 if config.data.task == "reverse" else config.model.context


def drawn(config: Config) -> int:
    """Examples of one update."""
    return min(config.train.batch_size, config.data.overfit) if config.data.overfit else config.train.batch_size


def positions(config: Config) -> int:
    """Positions that are computed at once: those of a batch, or of a part of it."""
    return math.ceil(drawn(config) / config.train.accumulate) * row_length(config)


def _weights(config: Config, n_vocab: int) -> Part:
    table = parameter_table(config.model, n_vocab)
    largest = max(table, key=lambda row: row.count)
    copies = 2 + MOMENTS[config.optim.name]
    count = count_parameters(config.model, n_vocab)
    name = f"{count:,} parameters with gradients and moments, most of them in {largest.symbol} ({largest.shape})"
    return Part(name, copies * FLOAT * count, _SYMBOLS.get(largest.symbol, _OF_ATTENTION))


def _activations(config: Config, rows: int) -> Part:
    model = config.model
    # What a layer keeps for its gradient: q, k, v and the heads; its input, two sums and a norm; the ReLU's output.
    features = model.n_layers * (4 * model.n_heads * model.d_head + 4 * model.d_model + model.d_ff)
    if model.source:
        features = 0
    shrink = "a smaller train.batch_size or model.context, a larger train.accumulate, or fewer model.n_layers"
    return Part(f"activations of {rows:,} positions", rows * features * FLOAT, shrink)


def _attention(config: Config, rows: int) -> Part:
    model = config.model
    size = 0 if model.source else 2 * model.n_layers * model.n_heads * rows * row_length(config) * FLOAT
    shrink = "a smaller model.context or train.batch_size, or model.dropout = 0, which needs no attention weights"
    return Part("attention weights, which dropout needs whole", size, shrink)


def _logits(config: Config, n_vocab: int, rows: int) -> Part:
    at_once = rows if n_vocab < CHUNK_FROM_VOCAB else min(rows, config.train.head_rows or HEAD_ROWS)
    shrink = "a smaller train.head_rows or train.batch_size, or a larger train.accumulate"
    return Part(f"logits of {at_once:,} positions", 2 * at_once * n_vocab * FLOAT, shrink)


def _batch(config: Config) -> Part:
    tokens = drawn(config) * row_length(config)
    return Part(f"a batch of {tokens:,} tokens", 3 * tokens * INT, "a smaller train.batch_size or model.context")


def check_memory(config: Config, n_vocab: int, *, on_cpu: bool = True) -> None:
    """Raises ConfigError where the training needs more than there is. What it needs at least is computed, not tried.

    on_cpu: else only the weights, which begin on the CPU, are counted.
    """
    found, there = parts(config, n_vocab), machine_bytes()
    if not on_cpu:
        count = 0 if config.model.source else count_parameters(config.model, n_vocab)
        found = (Part(f"{count:,} parameters", FLOAT * count, "a smaller model"),)
    if sum(part.bytes for part in found) > there:
        raise ConfigError([f"model and train: {_needs(found)}, and there is {size(there)}; {_cure(found)}"])


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` says that memory could not be had: Python's, numpy's, or torch's on the CPU or a GPU."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    words = str(error)
    return isinstance(error, RuntimeError) and any(
        sign in words for sign in ("can't allocate memory", "not enough memory", "out of memory")
    )


def out_of_memory_error(config: Config, n_vocab: int) -> TrainingError:
    """The error for memory that ran out: what is needed, and what to shrink."""
    found = parts(config, n_vocab)
    return TrainingError(f"memory ran out: {_needs(found)}; {_cure(found)}")


def _needs(found: tuple[Part, ...]) -> str:
    listed = ", ".join(f"{size(part.bytes)} for {part.name}" for part in found if part.bytes >= found[0].bytes / 100)
    return f"this training needs at least {size(sum(part.bytes for part in found))} ({listed})"


def _cure(found: tuple[Part, ...]) -> str:
    return f"what helps most: {found[0].shrink}"


def size(n: int) -> str:
    """A number of bytes as one reads it."""
    value, unit = float(n), 0
    while value >= 1024 and unit < len(_UNITS) - 1:
        value, unit = value / 1024, unit + 1
    return f"{value:.0f} {_UNITS[unit]}" if unit == 0 or value >= 100 else f"{value:.1f} {_UNITS[unit]}"

"""The least memory that a run needs, computed before anything is allocated, and which settings reduce it.

It needs no torch.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import psutil

from tui_lab.core.config.schema import CHUNK_FROM_VOCAB, Config
from tui_lab.core.kernels.parameter_count import count_parameters, parameter_table
from tui_lab.util.errors import ConfigError, TrainingError

FLOAT_BYTES = 4
HALF_BYTES = 2
INT_BYTES = 8
MOMENTS = {"sgd": 0, "momentum": 1, "adam": 2, "adamw": 2, "muon": 1}
"""Numbers that the optimizer keeps per parameter; for muon, per parameter of the matrices."""
HEAD_ROWS = 512
_CGROUP = Path("/sys/fs/cgroup/memory.max")
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
_SYMBOLS = {
    "W_E": "data.vocab = 'seen', a different data.tokenizer or a smaller model.d_model",
    "W_P": "a smaller model.context or model.d_model",
    "W_1, b_1": "a smaller model.d_ff, model.d_model or model.n_layers",
    "W_2, b_2": "a smaller model.d_ff, model.d_model or model.n_layers",
    "W, b": "data.vocab = 'seen', a different data.tokenizer or a smaller model.d_model",
}
_ATTENTION = "a smaller model.n_heads, model.d_head, model.d_model or model.n_layers"


@dataclass(frozen=True)
class MemoryPart:
    """One part of the memory. bytes: at least. shrink: which settings reduce it, for display."""

    name: str
    bytes: int
    shrink: str


def machine_bytes() -> int:
    """Return the memory that this process can get: the machine's, or less in a container (cgroup v2, memory.max)."""
    total = int(psutil.virtual_memory().total)
    try:
        return min(total, int(_CGROUP.read_text("ascii")))
    except (OSError, ValueError):  # Not in a container, or no limit ("max").
        return total


def parts(config: Config, n_vocab: int) -> tuple[MemoryPart, ...]:
    """Return what a run of `config` with `n_vocab` tokens holds at the same time, the largest part first."""
    rows = positions(config)
    needed = [_activations(config, rows), _logits(config, n_vocab, rows), _batch(config)]
    if config.model.dropout > 0:
        needed.append(_attention(config, rows))
    if not config.model.source:
        needed.append(_weights(config, n_vocab))
    return tuple(sorted(needed, key=lambda part: part.bytes, reverse=True))


def row_length(config: Config) -> int:
    """Return the positions of one example."""
    return 2 * config.data.length - 1 if config.data.task == "reverse" else config.model.context


def drawn(config: Config) -> int:
    """Return the examples of one step."""
    return min(config.train.batch_size, config.data.overfit) if config.data.overfit else config.train.batch_size


def positions(config: Config) -> int:
    """Return the positions that are computed at once: those of a micro-batch."""
    return math.ceil(drawn(config) / config.train.accumulate) * row_length(config)


def _weights(config: Config, n_vocab: int) -> MemoryPart:
    table = parameter_table(config.model, n_vocab)
    largest = max(table, key=lambda row: row.count)
    copies = 2 + MOMENTS[config.optim.name]
    count = count_parameters(config.model, n_vocab)
    name = f"{count:,} parameters with gradients and moments, most of them in {largest.symbol} ({largest.shape})"
    return MemoryPart(name, copies * FLOAT_BYTES * count, _SYMBOLS.get(largest.symbol, _ATTENTION))


def _activations(config: Config, rows: int) -> MemoryPart:
    model = config.model
    # A layer keeps for its gradient: q, k, v and the heads; its input, two sums and a norm; the ReLU's output.
    features = model.n_layers * (4 * model.n_heads * model.d_head + 4 * model.d_model + model.d_ff)
    if model.source:
        features = 0
    shrink = "a smaller train.batch_size or model.context, a larger train.accumulate, or fewer model.n_layers"
    return MemoryPart(f"activations of {rows:,} positions", rows * features * FLOAT_BYTES, shrink)


def _attention(config: Config, rows: int) -> MemoryPart:
    model = config.model
    size = 0 if model.source else 2 * model.n_layers * model.n_heads * rows * row_length(config) * FLOAT_BYTES
    shrink = "a smaller model.context or train.batch_size, or model.dropout = 0, which needs no attention weights"
    return MemoryPart("attention weights, which dropout needs in full", size, shrink)


def _logits(config: Config, n_vocab: int, rows: int) -> MemoryPart:
    at_once = rows if n_vocab < CHUNK_FROM_VOCAB else min(rows, config.train.head_rows or HEAD_ROWS)
    shrink = "a smaller train.head_rows or train.batch_size, or a larger train.accumulate"
    size = HALF_BYTES if config.train.precision in ("bf16", "fp16") else FLOAT_BYTES
    return MemoryPart(f"logits of {at_once:,} positions", 2 * at_once * n_vocab * size, shrink)


def _batch(config: Config) -> MemoryPart:
    tokens = drawn(config) * row_length(config)
    return MemoryPart(
        f"a batch of {tokens:,} tokens", 3 * tokens * INT_BYTES, "a smaller train.batch_size or model.context"
    )


def check_memory(config: Config, n_vocab: int, *, on_cpu: bool = True) -> None:
    """Raises ConfigError if a run needs more memory than this machine has.

    on_cpu: if false, only the weights are counted, which are built on the CPU.
    """
    needed = parts(config, n_vocab)
    available = machine_bytes()
    if not on_cpu:
        count = 0 if config.model.source else count_parameters(config.model, n_vocab)
        needed = (MemoryPart(f"{count:,} parameters", FLOAT_BYTES * count, "a smaller model"),)
    if sum(part.bytes for part in needed) > available:
        message = f"{_needs(needed)}, and this machine has {size(available)}; {_advice(needed)}"
        raise ConfigError.of("too_large", message, key="model and train")


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether `error` is a failed allocation: of Python, numpy, or torch on the CPU or a GPU."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    message = str(error)
    return isinstance(error, RuntimeError) and any(
        phrase in message for phrase in ("can't allocate memory", "not enough memory", "out of memory")
    )


def out_of_memory_error(config: Config, n_vocab: int) -> TrainingError:
    """Return the error for being out of memory: what is needed and which settings reduce it."""
    needed = parts(config, n_vocab)
    return TrainingError(f"out of memory: {_needs(needed)}; {_advice(needed)}")


def _needs(needed: tuple[MemoryPart, ...]) -> str:
    large = [part for part in needed if part.bytes >= needed[0].bytes / 100]
    listed = ", ".join(f"{size(part.bytes)} for {part.name}" for part in large)
    return f"this run needs at least {size(sum(part.bytes for part in needed))} ({listed})"


def _advice(needed: tuple[MemoryPart, ...]) -> str:
    return f"try {needed[0].shrink}"


def size(n: int) -> str:
    """Return a number of bytes with a unit, such as "1.5 GiB"."""
    value = float(n)
    unit = 0
    while value >= 1024 and unit < len(_UNITS) - 1:
        value, unit = value / 1024, unit + 1
    return f"{value:.0f} {_UNITS[unit]}" if unit == 0 or value >= 100 else f"{value:.1f} {_UNITS[unit]}"

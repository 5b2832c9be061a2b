"""Chooses the fastest kernels, measured once per machine and shape and then cached.

The choice changes the order of sums, hence the last bit of a loss. So a run writes it into its config, as
`train.matmul` and `train.head_rows`, and keeps it wherever it is resumed.
"""

import hashlib
import json
import platform
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch

from tui_lab.core.config import settings
from tui_lab.core.config.schema import CHUNK_FROM_VOCAB, Config
from tui_lab.core.kernels.chunked_cross_entropy import head_loss_sum
from tui_lab.core.kernels.device import choose_device, use_threads
from tui_lab.core.kernels.linear import SMALLEST, Engine, Kernels, linear, onednn_available
from tui_lab.core.kernels.memory_estimate import check_memory
from tui_lab.util import files
from tui_lab.util.cache import cache_folder
from tui_lab.util.errors import ConfigError

HEAD_ROWS = (128, 256, 512)
LARGEST_CHUNK = 2**27
"""Bytes of logits in one chunk, at most: twice as many are 1% faster and take 100 MB more."""
ROWS_MEASURED = 1024
REPEATS = 2


def with_kernels(config: Config, n_vocab: int) -> Config:
    """Return `config` with `train.matmul` and `train.head_rows` decided, and measured if necessary."""
    kernels = kernels_for(config, n_vocab)
    config = settings.changed(config, "train.matmul", kernels.engine)
    return settings.changed(config, "train.head_rows", kernels.head_rows)


def kernels_for(config: Config, n_vocab: int) -> Kernels:
    """Return the kernels for a run of `config` with `n_vocab` tokens.

    Raises ConfigError if the run does not fit into memory, or if oneDNN is asked for and not available.
    """
    check_memory(config, n_vocab, on_cpu=choose_device(config.train.device).type == "cpu")
    train = config.train
    if train.matmul == "onednn" and not onednn_available():
        raise ConfigError.of(
            "unavailable",
            "this build of torch has no oneDNN",
            key="train.matmul",
            value=train.matmul,
            allowed="auto, blas",
        )
    if not has_choice(config, n_vocab):
        kernels = Kernels()
    elif train.matmul != "auto" and train.head_rows:
        kernels = Kernels(train.matmul, train.head_rows)
    else:
        kernels = cached(_key(config, n_vocab), lambda: measure(config, n_vocab))
    engine = kernels.engine if train.matmul == "auto" else train.matmul
    return Kernels(engine, train.head_rows or kernels.head_rows)


def has_choice(config: Config, n_vocab: int) -> bool:
    """Return whether kernels can differ in speed: for the built-in model, on the CPU, with large enough products."""
    rows = config.train.batch_size * config.model.context
    is_large = rows * config.model.d_model * max(config.model.d_ff, n_vocab) >= SMALLEST
    return is_large and not config.model.source and choose_device(config.train.device).type == "cpu"


def cached(key: str, measure: Callable[[], Kernels]) -> Kernels:
    """Return the cached kernels of `key`, or measure and cache them. A cache that cannot be used is ignored."""
    path = cache_folder() / "kernels.json"
    by_key = _read(path)
    if key not in by_key:
        by_key[key] = measure()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            files.write_text(path, json.dumps({key: asdict(kernels) for key, kernels in by_key.items()}, indent=1))
        except OSError:
            pass
    return by_key[key]


def measure(config: Config, n_vocab: int) -> Kernels:
    """Return the fastest kernels for the largest products of one step, forward and backward."""
    use_threads(config.train.threads)
    engines: tuple[Engine, ...] = ("blas", "onednn") if onednn_available() else ("blas",)
    n = min(ROWS_MEASURED, config.train.batch_size * config.model.context)
    generator = torch.Generator().manual_seed(0)
    # h requires a gradient, since that gradient is a product, too.
    h = torch.randn(n, config.model.d_model, generator=generator).requires_grad_()
    if n_vocab < CHUNK_FROM_VOCAB:
        return Kernels(_fastest_engine(h, config.model.d_ff, engines, generator))
    return _fastest_head(h, n_vocab, engines, generator)


def _fastest_engine(h: torch.Tensor, d_ff: int, engines: tuple[Engine, ...], generator: torch.Generator) -> Engine:
    weight = torch.randn(d_ff, h.shape[1], generator=generator) * 0.02
    gradient = torch.randn(len(h), d_ff, generator=generator)

    def seconds(engine: Engine) -> float:
        return _seconds(lambda w: (linear(h, w, None, engine) * gradient).sum(), weight)

    return min(engines, key=seconds)


def _fastest_head(h: torch.Tensor, n_vocab: int, engines: tuple[Engine, ...], generator: torch.Generator) -> Kernels:
    """Measure the head with each engine in the largest chunks, then the faster engine in smaller ones."""
    n = len(h)
    weight = torch.randn(n_vocab, h.shape[1], generator=generator) * 0.02
    bias = torch.zeros(n_vocab).requires_grad_()
    targets = torch.randint(n_vocab, (n,), generator=generator)
    sizes = [rows for rows in HEAD_ROWS if rows <= n and 4 * rows * n_vocab <= LARGEST_CHUNK]
    sizes = sizes or [min(n, HEAD_ROWS[0])]

    def seconds(kernels: Kernels) -> float:
        return _seconds(lambda w: head_loss_sum(h, w, bias, targets, kernels), weight)

    # In the largest chunks both engines are near their best, and the cost per step weighs as little as in training.
    by_engine = {kernels: seconds(kernels) for kernels in (Kernels(engine, sizes[-1]) for engine in engines)}
    best = min(by_engine, key=lambda kernels: by_engine[kernels])
    times = {best: by_engine[best]}
    for rows in sizes[:-1]:
        kernels = Kernels(best.engine, rows)
        times[kernels] = seconds(kernels)
    return min(times, key=lambda kernels: times[kernels])


def _seconds(loss: Callable[[torch.Tensor], torch.Tensor], weight: torch.Tensor) -> float:
    """Return the shortest of some forward and backward passes after a warm-up: disturbances only add time."""
    times = []
    for _ in range(1 + REPEATS):
        leaf = weight.detach().requires_grad_()
        start = time.perf_counter()
        loss(leaf).backward()  # type: ignore[no-untyped-call]
        times.append(time.perf_counter() - start)
    return min(times[1:])


def _key(config: Config, n_vocab: int) -> str:
    threads = config.train.threads or torch.get_num_threads()
    shape = (config.model.d_model, config.model.d_ff, n_vocab, config.train.batch_size * config.model.context)
    return f"{processor()}; torch {torch.__version__}; {threads} threads; {'×'.join(map(str, shape))}"


def processor() -> str:
    """Return a name of this machine's processor that includes the features that torch's kernels depend on."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    flags = next((line for line in lines if line.startswith("flags")), "")
    digest = hashlib.sha256(flags.encode()).hexdigest()[:8]
    return f"{name or platform.processor() or platform.machine()}, {torch.backends.cpu.get_cpu_capability()}, {digest}"


def _read(path: Path) -> dict[str, Kernels]:
    try:
        by_key = json.loads(path.read_text("utf-8"))
        return {key: Kernels(**value) for key, value in by_key.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}

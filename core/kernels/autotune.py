"""Chooses the fastest kernels, measured once per machine and shape and then cached.

The choice changes the order of sums, hence the last bit of a loss. So a run writes it into its config, as
`train.matmul` and `train.head_rows`, and keeps it wherever it is resumed.
"""

import hashlib
import json
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path

import torch
from filelock import FileLock

from tui_lab.core.config import settings
from tui_lab.core.config.schema import CHUNK_FROM_VOCAB, Config
from tui_lab.core.kernels.device import choose_device, use_threads
from tui_lab.core.kernels.head_loss import head_loss_sum
from tui_lab.core.kernels.linear import SMALLEST, Engine, Kernels, linear, onednn_available, onednn_has_bf16
from tui_lab.core.kernels.memory_estimate import check_memory
from tui_lab.core.kernels.precision import Precision, autocast, without_tf32
from tui_lab.util import files
from tui_lab.util.cache import cache_folder
from tui_lab.util.errors import ConfigError

HEAD_ROWS = {"fp32": (128, 256, 512), "bf16": (512, 1024, 2048)}
LARGEST_CHUNK = {"fp32": 2**27, "bf16": 2**28}
"""Bytes of logits in one chunk, at most. In float32 twice as many are 1% faster and take 100 MB more."""
BYTES = {"fp32": 4, "bf16": 2}
ROWS_MEASURED = {"fp32": 1024, "bf16": 2048}
REPEATS = 2
LARGEST_CHUNK_ON_GPU = 2**30
"""Bytes of float32 probabilities in one chunk on a GPU."""
LONGEST_WAIT = 60.0
"""Seconds to wait for another process that measures, which takes up to ten, before measuring beside it."""
SMALLEST_GAIN = 1.1
"""How much faster than float32 bfloat16 has to be, so that `auto` chooses it."""


def with_kernels(config: Config, n_vocab: int) -> Config:
    """Return `config` with `train.matmul`, `train.head_rows` and `train.precision` decided, measured if necessary."""
    kernels = kernels_for(config, n_vocab)
    config = settings.changed(config, "train.matmul", kernels.engine)
    if config.train.precision != "tf32":
        config = settings.changed(config, "train.precision", kernels.precision)
    return settings.changed(config, "train.head_rows", kernels.head_rows)


def kernels_for(config: Config, n_vocab: int) -> Kernels:
    """Return the kernels for a run of `config` with `n_vocab` tokens.

    Raises ConfigError if the run does not fit into memory, or if the machine lacks what is asked for.
    """
    device = choose_device(config.train.device)
    check_memory(config, n_vocab, on_cpu=device.type == "cpu")
    train = config.train
    if train.matmul == "onednn" and not onednn_available():
        raise ConfigError.of(
            "unavailable",
            "this build of torch has no oneDNN",
            key="train.matmul",
            value=train.matmul,
            allowed="auto, blas",
        )
    precision = _precision_without_measuring(config, n_vocab, device)
    is_measured = precision is None or (
        has_choice(config, n_vocab)
        and (precision == "fp32" or (precision == "bf16" and onednn_has_bf16()))
        and (train.matmul == "auto" or not train.head_rows)
    )
    if is_measured:
        kernels = cached(_key(config, n_vocab), lambda: measure(config, n_vocab))
    else:
        kernels = Kernels(head_rows=_rows_without_measuring(n_vocab, device))
    return Kernels(
        kernels.engine if train.matmul == "auto" else train.matmul,
        train.head_rows or kernels.head_rows,
        precision or kernels.precision,
    )


def _precision_without_measuring(config: Config, n_vocab: int, device: torch.device) -> Precision | None:
    """Return the precision of a run, or None where `auto` has to measure it: on a CPU, for large enough products."""
    if config.train.precision != "auto":
        return without_tf32(config.train.precision)
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    return None if device.type == "cpu" and _is_large(config, n_vocab) else "fp32"


def _rows_without_measuring(n_vocab: int, device: torch.device) -> int:
    """Return the rows of a chunk: on a GPU as many as fit, since small products leave it idle."""
    if device.type == "cpu":
        return Kernels.head_rows
    return max(Kernels.head_rows, LARGEST_CHUNK_ON_GPU // (4 * n_vocab))


def has_choice(config: Config, n_vocab: int) -> bool:
    """Return whether kernels can differ in speed: for the built-in model, on the CPU, with large enough products."""
    on_cpu = choose_device(config.train.device).type == "cpu"
    return _is_large(config, n_vocab) and not config.model.source and on_cpu


def _is_large(config: Config, n_vocab: int) -> bool:
    rows = config.train.batch_size * config.model.context
    return rows * config.model.d_model * max(config.model.d_ff, n_vocab) >= SMALLEST


def cached(key: str, measure: Callable[[], Kernels]) -> Kernels:
    """Return the cached kernels of `key`, or measure and cache them. A cache that cannot be used is ignored.

    Processes measure one after the other, each kernel once: two that measure at the same time disturb each other.
    """
    path = cache_folder() / "kernels.json"
    kernels = _read(path).get(key)
    if kernels is not None:
        return kernels
    with _locked(path):
        by_key = _read(path)  # Another process may have measured it meanwhile.
        if key not in by_key:
            by_key[key] = measure()
            with suppress(OSError):
                files.write_text(path, json.dumps({key: asdict(kernels) for key, kernels in by_key.items()}, indent=1))
        return by_key[key]


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Keep other processes from using a file of the cache; do nothing where it cannot be locked."""
    with ExitStack() as stack:
        with suppress(OSError):  # A lock that is not free in time is an OSError, too.
            path.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(FileLock(f"{path}.lock", timeout=LONGEST_WAIT))
        yield


def measure(config: Config, n_vocab: int) -> Kernels:
    """Return the fastest kernels for the largest products of one step, forward and backward.

    For a user's model, whose products are unknown, a product of the config's sizes stands for them.
    """
    use_threads(config.train.threads)
    engines: tuple[Engine, ...] = ("blas", "onednn") if onednn_available() and not config.model.source else ("blas",)
    in_fp32 = [Kernels(engine) for engine in engines]
    # Without fast bfloat16 it would lose, and measuring it would take as long as many steps.
    in_bf16 = [Kernels(precision="bf16")] if onednn_has_bf16() else []
    candidates = {"bf16": in_bf16, "auto": in_fp32 + in_bf16}.get(config.train.precision, in_fp32)
    if n_vocab < CHUNK_FROM_VOCAB or config.model.source:
        product = _Product(config, max(config.model.d_ff, n_vocab if config.model.source else 0))
        return _fastest({kernels: product.seconds(kernels) for kernels in candidates})
    return _fastest_head(_Head(config, n_vocab), candidates)


def _fastest(seconds: dict[Kernels, float]) -> Kernels:
    return min(seconds, key=lambda k: seconds[k] * (SMALLEST_GAIN if k.precision == "bf16" else 1.0))


def _fastest_head(head: "_Head", candidates: list[Kernels]) -> Kernels:
    """Measure the head with each candidate in its largest chunks, then the fastest candidate in smaller ones."""
    # In the largest chunks all are near their best, and the cost per step weighs as little as in training.
    largest = [replace(kernels, head_rows=head.chunk_sizes(kernels.precision)[-1]) for kernels in candidates]
    seconds = {kernels: head.seconds(kernels) for kernels in largest}
    best = _fastest(seconds)
    smaller = [replace(best, head_rows=rows) for rows in head.chunk_sizes(best.precision)[:-1]]
    return min([best, *smaller], key=lambda kernels: seconds.get(kernels) or head.seconds(kernels))


class _Head:
    """The head and its loss, on random activations of the shape of a batch."""

    def __init__(self, config: Config, n_vocab: int) -> None:
        n = min(max(ROWS_MEASURED.values()), config.train.batch_size * config.model.context)
        generator = torch.Generator().manual_seed(0)
        # h requires a gradient, since that gradient is a product, too.
        self._h = torch.randn(n, config.model.d_model, generator=generator).requires_grad_()
        self._weight = torch.randn(n_vocab, config.model.d_model, generator=generator) * 0.02
        self._bias = torch.zeros(n_vocab).requires_grad_()
        self._targets = torch.randint(n_vocab, (n,), generator=generator)

    def chunk_sizes(self, precision: str) -> list[int]:
        """Return the chunks to try, the largest last."""
        n = min(len(self._h), ROWS_MEASURED[precision])
        n_vocab = len(self._weight)
        fitting = LARGEST_CHUNK[precision] // (BYTES[precision] * n_vocab)
        return [rows for rows in HEAD_ROWS[precision] if rows <= min(n, fitting)] or [min(n, HEAD_ROWS["fp32"][0])]

    def seconds(self, kernels: Kernels) -> float:
        """Return the seconds of one row, forward and backward."""
        n = min(len(self._h), ROWS_MEASURED[kernels.precision])
        h, targets = self._h[:n], self._targets[:n]
        return _seconds(lambda w: head_loss_sum(h, w, self._bias, targets, kernels), self._weight) / n


class _Product:
    """One product of a batch's activations with a matrix of `n_out` rows."""

    def __init__(self, config: Config, n_out: int) -> None:
        n = min(max(ROWS_MEASURED.values()), config.train.batch_size * config.model.context)
        generator = torch.Generator().manual_seed(0)
        self._x = torch.randn(n, config.model.d_model, generator=generator).requires_grad_()
        self._weight = torch.randn(n_out, config.model.d_model, generator=generator) * 0.02
        self._gradient = torch.randn(n, n_out, generator=generator)

    def seconds(self, kernels: Kernels) -> float:
        """Return the seconds of the product, forward and backward."""

        def loss(weight: torch.Tensor) -> torch.Tensor:
            with autocast(kernels.precision, weight.device):
                product = linear(self._x, weight, None, kernels.engine)
            return (product * self._gradient).sum()

        return _seconds(loss, self._weight)


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
    key = f"{processor()}; torch {torch.__version__}; {threads} threads; {'×'.join(map(str, shape))}"
    requested = [config.train.precision] if config.train.precision in ("auto", "bf16") else []
    return "; ".join([key, *requested, *(["user's model"] if config.model.source else [])])


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

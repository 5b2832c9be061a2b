"""Which kernels are the fastest: measured once for a machine and shape, and remembered there.

The choice changes the order of sums, hence the last bit of a loss. So a run writes it into its config, as
`train.matmul` and `train.head_rows`, and goes on with it wherever it is resumed.
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
"""Bytes of logits at once, at most: twice that is a hundredth faster and 100 MB larger."""
ROWS_MEASURED = 1024
REPEATS = 2


def with_kernels(config: Config, n_vocab: int) -> Config:
    """`config` with `train.matmul` and `train.head_rows` decided: as asked for, as remembered, or as measured now."""
    kernels = kernels_for(config, n_vocab)
    return settings.changed(
        settings.changed(config, "train.matmul", kernels.engine), "train.head_rows", kernels.head_rows
    )


def kernels_for(config: Config, n_vocab: int) -> Kernels:
    """The kernels for a training of `config` with `n_vocab` tokens. Raises ConfigError for oneDNN where it is not."""
    check_memory(config, n_vocab, on_cpu=choose_device(config.train.device).type == "cpu")
    train, default = config.train, Kernels()
    if train.matmul == "onednn" and not onednn_available():
        raise ConfigError(["train.matmul = 'onednn': this build of torch has it not; available here: auto, blas"])
    if not has_choice(config, n_vocab):
        found = default
    elif train.matmul != "auto" and train.head_rows:
        found = Kernels(train.matmul, train.head_rows)
    else:
        found = remembered(_key(config, n_vocab), lambda: measure(config, n_vocab))
    return Kernels(found.engine if train.matmul == "auto" else train.matmul, train.head_rows or found.head_rows)


def has_choice(config: Config, n_vocab: int) -> bool:
    """Whether there is anything to choose: the lab's own model, on the CPU, with products that are large enough."""
    rows, widest = config.train.batch_size * config.model.context, max(config.model.d_ff, n_vocab)
    large = rows * config.model.d_model * widest >= SMALLEST
    return large and not config.model.source and choose_device(config.train.device).type == "cpu"


def remembered(key: str, find: Callable[[], Kernels]) -> Kernels:
    """What was found before for `key`, or `find()`. A memory that cannot be read or written is no obstacle."""
    path = cache_folder() / "kernels.json"
    known = _read(path)
    if key not in known:
        known[key] = find()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            files.write_text(path, json.dumps({key: asdict(kernels) for key, kernels in known.items()}, indent=1))
        except OSError:
            pass
    return known[key]


def measure(config: Config, n_vocab: int) -> Kernels:
    """Try the largest products of one step, there and back, by each library and in chunks of several sizes."""
    use_threads(config.train.threads)
    engines: tuple[Engine, ...] = ("blas", "onednn") if onednn_available() else ("blas",)
    n = min(ROWS_MEASURED, config.train.batch_size * config.model.context)
    generator = torch.Generator().manual_seed(0)
    h = torch.randn(n, config.model.d_model, generator=generator).requires_grad_()  # Its gradient is a product, too.
    if n_vocab < CHUNK_FROM_VOCAB:
        weight = torch.randn(config.model.d_ff, config.model.d_model, generator=generator) * 0.02
        g = torch.randn(n, config.model.d_ff, generator=generator)
        return Kernels(
            min(engines, key=lambda engine: _seconds(lambda w: (linear(h, w, None, engine) * g).sum(), weight))
        )
    weight, bias = torch.randn(n_vocab, config.model.d_model, generator=generator) * 0.02, torch.zeros(n_vocab)
    bias.requires_grad_()
    targets = torch.randint(n_vocab, (n,), generator=generator)
    sizes = [r for r in HEAD_ROWS if r <= n and 4 * r * n_vocab <= LARGEST_CHUNK] or [min(n, HEAD_ROWS[0])]

    def seconds(kernels: Kernels) -> float:
        return _seconds(lambda w: head_loss_sum(h, w, bias, targets, kernels), weight)

    # The largest chunks first: there both libraries are near their best, and what is done once a step weighs as little
    # as in a step.
    by_engine = {Kernels(engine, sizes[-1]): seconds(Kernels(engine, sizes[-1])) for engine in engines}
    best = min(by_engine, key=lambda kernels: by_engine[kernels])
    others = {kernels: seconds(kernels) for size in sizes[:-1] if (kernels := Kernels(best.engine, size))}
    found = {best: by_engine[best], **others}
    return min(found, key=lambda kernels: found[kernels])


def _seconds(loss: Callable[[torch.Tensor], torch.Tensor], weight: torch.Tensor) -> float:
    """The fastest of some forward and backward passes, after one that warms up: whatever disturbs only adds."""
    times = []
    for _ in range(1 + REPEATS):
        leaf, began = weight.detach().requires_grad_(), time.perf_counter()
        loss(leaf).backward()  # type: ignore[no-untyped-call]
        times.append(time.perf_counter() - began)
    return min(times[1:])


def _key(config: Config, n_vocab: int) -> str:
    threads = config.train.threads or torch.get_num_threads()
    shape = (config.model.d_model, config.model.d_ff, n_vocab, config.train.batch_size * config.model.context)
    return f"{processor()}; torch {torch.__version__}; {threads} threads; {'×'.join(map(str, shape))}"


def processor() -> str:
    """A name of this machine's processor, with what of it torch's kernels use."""
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
        found = json.loads(path.read_text("utf-8"))
        return {key: Kernels(**value) for key, value in found.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}

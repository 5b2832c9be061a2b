"""The ledger of randomness: every source that a training draws from, its seed, and a fingerprint of what it drew."""

import hashlib
import os
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from tui_lab.core.config import settings
from tui_lab.core.config.schema import Config
from tui_lab.core.kernels.autotune import has_choice, with_kernels
from tui_lab.core.kernels.device import choose_device
from tui_lab.core.training.model_factory import build_model
from tui_lab.core.training.task_factory import build_loader
from tui_lab.core.training.train_step import dropout_seed
from tui_lab.data.dataset import Task

VALIDATION_LOOKED = 256


@dataclass(frozen=True)
class Source:
    """seed: in words. pinned: whether a second run draws the same. fingerprint: of what it draws at this step, or None.

    pin: the setting that would pin it, with its value.
    """

    name: str
    draws: str
    seed: str
    pinned: bool
    fingerprint: str | None = None
    pin: tuple[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def fingerprint(*arrays: Any) -> str:
    """The first 12 hexadecimal digits of the sha256 of arrays or tensors."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(np.asarray(array)).tobytes())
    return digest.hexdigest()[:12]


def ledger(config: Config, task: Task, step: int = 0) -> tuple[Source, ...]:
    """Every source of randomness of a training of `config`, as it stands at update `step`.

    Raises ConfigError for a device that is not there. torch's global generator is left as it was.
    """
    seed, before = config.train.seed, torch.get_rng_state()
    try:
        return (
            Source("initialisation", "the first weights", f"train.seed = {seed}", True, _weights(config, task)),
            Source("split", "training and validation examples", "by contiguous part" if task.next_token
                   else "by a hash of the row, of no seed", True, _split(task)),
            *_order(config, task, step),
            _dropout(config, step),
            Source("sampling", "generated tokens", "--seed, a generator of its own", True, _sampling(0)),
            _noise(config),
            _threads(config),
            *_products(config, task),
            _kernels(config),
            _hash_seed(),
        )  # fmt: skip
    finally:
        torch.set_rng_state(before)


def pinned(config: Config, sources: tuple[Source, ...]) -> Config:
    """`config` with every source pinned that a setting can pin."""
    for source in sources:
        if not source.pinned and source.pin is not None:
            config = settings.changed(config, *source.pin)
    return config


def _weights(config: Config, task: Task) -> str:
    model = build_model(config, task.tokenizer.n_vocab)
    return fingerprint(*(p.detach() for p in model.parameters()))


def _split(task: Task) -> str:
    n = min(VALIDATION_LOOKED, task.val.n_examples)
    return fingerprint(task.val.examples(np.arange(n, dtype=np.int64))[0])


def _order(config: Config, task: Task, step: int) -> tuple[Source, ...]:
    mode = config.data.shuffle
    words = {"epoch": "train.seed and the epoch", "once": "train.seed", "off": "none: in order"}[mode]
    ids = build_loader(config, task).batch(step).ids
    shuffled = "shuffle_every_step" in config.faults
    return (Source("order", f"the examples of step {step}", words + (", but a fault shuffles anew" if shuffled else ""),
                   not shuffled, fingerprint(ids)),)  # fmt: skip


def _dropout(config: Config, step: int) -> Source:
    torch.manual_seed(dropout_seed(config.train.seed, step))
    if config.model.dropout == 0:
        return Source("dropout", "nothing: the rate is 0", "train.seed and the step", True)
    return Source(
        "dropout", f"what is zeroed at step {step}", "train.seed and the step", True, fingerprint(torch.rand(64))
    )


def _sampling(seed: int) -> str:
    return fingerprint(torch.rand(8, generator=torch.Generator().manual_seed(seed)))


def _noise(config: Config) -> Source:
    if "unseeded_noise" in config.faults:
        return Source("noise", "added to the embedding, by a fault", "none", False, pin=("faults", _without(config)))
    return Source("noise", "nothing: no other generator is used", "none", True)


def _without(config: Config) -> tuple[str, ...]:
    return tuple(name for name in config.faults if name != "unseeded_noise")


def _threads(config: Config) -> Source:
    n = torch.get_num_threads()
    fixed = config.train.threads > 0
    words = f"train.threads = {config.train.threads}" if fixed else f"torch's choice, {n} here"
    return Source("threads", "the order of sums, hence their last bit", words, fixed, pin=("train.threads", n))


def _products(config: Config, task: Task) -> tuple[Source, ...]:
    """Which library multiplies and in what portions: measured on each machine, unless settings say it."""
    here, train, draws = with_kernels(config, task.tokenizer.n_vocab).train, config.train, "the order of sums, as above"
    if not has_choice(config, task.tokenizer.n_vocab):
        return (Source("products", draws, f"{here.matmul}: nothing is measured for so small a training", True),)
    library, rows = train.matmul != "auto", train.head_rows > 0
    return (
        Source("products", draws, f"train.matmul = {train.matmul}" + ("" if library else f", {here.matmul} here"),
               library, pin=("train.matmul", here.matmul)),
        Source("head rows", draws,
               f"train.head_rows = {train.head_rows}" + ("" if rows else f", {here.head_rows} here"), rows,
               pin=("train.head_rows", here.head_rows)),
    )  # fmt: skip


def _kernels(config: Config) -> Source:
    device = choose_device(config.train.device)
    settled = device.type == "cpu" or torch.are_deterministic_algorithms_enabled()
    words = f"{device.type}: {'the same sums each time' if settled else 'atomic additions in any order'}"
    return Source("kernels", "the order of parallel additions", words, settled, pin=("train.device", "cpu"))


def _hash_seed() -> Source:
    value = os.environ.get("PYTHONHASHSEED", "random")
    return Source("hash seed", "the order of sets of words, which no draw depends on", f"PYTHONHASHSEED {value}", True)

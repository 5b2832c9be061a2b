"""Every source of randomness of a run, its seed, and a fingerprint of what it draws."""

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

VALIDATION_EXAMPLES = 256
"""Validation examples of which the fingerprint of the split is taken."""


@dataclass(frozen=True)
class RandomSource:
    """One source of randomness.

    draws: what it decides. seed: where its seed comes from, for display. pinned: whether a second run draws the same.
    fingerprint: of what it draws at this step, if it draws anything. pin: the setting and value that would pin it.
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
    """Return the first 12 hexadecimal digits of the sha256 of arrays or tensors."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(np.asarray(array)).tobytes())
    return digest.hexdigest()[:12]


def ledger(config: Config, task: Task, step: int = 0) -> tuple[RandomSource, ...]:
    """Return every source of randomness of a run of `config`, as of step `step`.

    Leaves torch's global generator unchanged. Raises ConfigError if the device is not available.
    """
    generator_state = torch.get_rng_state()
    try:
        return (
            _initialization(config, task),
            _split(task),
            _order(config, task, step),
            _dropout(config, step),
            _sampling(),
            _noise(config),
            _threads(config),
            *_products(config, task),
            _precision(config, task),
            _parallel_additions(config),
            _hash_seed(),
        )
    finally:
        torch.set_rng_state(generator_state)


def pinned(config: Config, sources: tuple[RandomSource, ...]) -> Config:
    """Return `config` with every source pinned that a setting can pin."""
    for source in sources:
        if not source.pinned and source.pin is not None:
            config = settings.changed(config, *source.pin)
    return config


def _initialization(config: Config, task: Task) -> RandomSource:
    model = build_model(config, task.tokenizer.n_vocab)
    weights = fingerprint(*(p.detach() for p in model.parameters()))
    return RandomSource("initialization", "the first weights", f"train.seed = {config.train.seed}", True, weights)


def _split(task: Task) -> RandomSource:
    seed = "none: by position in the text" if task.next_token else "none: by a hash of the row"
    ids = np.arange(min(VALIDATION_EXAMPLES, task.val.n_examples), dtype=np.int64)
    return RandomSource("split", "training and validation examples", seed, True, fingerprint(task.val.examples(ids)[0]))


def _order(config: Config, task: Task, step: int) -> RandomSource:
    seeds = {"epoch": "train.seed and the epoch", "once": "train.seed", "off": "none: in order"}
    seed = seeds[config.data.shuffle]
    has_fault = "shuffle_every_step" in config.faults
    if has_fault:
        seed += ", but a planted fault shuffles at every step"
    ids = build_loader(config, task).batch(step).ids
    return RandomSource("order", f"the examples of step {step}", seed, not has_fault, fingerprint(ids))


def _dropout(config: Config, step: int) -> RandomSource:
    seed = "train.seed and the step"
    if config.model.dropout == 0:
        return RandomSource("dropout", "nothing: the rate is 0", seed, True)
    torch.manual_seed(dropout_seed(config.train.seed, step))
    return RandomSource("dropout", f"the activations zeroed at step {step}", seed, True, fingerprint(torch.rand(64)))


def _sampling() -> RandomSource:
    draws = torch.rand(8, generator=torch.Generator().manual_seed(0))
    return RandomSource("sampling", "generated tokens", "--seed, with its own generator", True, fingerprint(draws))


def _noise(config: Config) -> RandomSource:
    if "unseeded_noise" not in config.faults:
        return RandomSource("noise", "nothing: no other generator is used", "none", True)
    other_faults = tuple(name for name in config.faults if name != "unseeded_noise")
    draws = "noise that a planted fault adds to the embedding"
    return RandomSource("noise", draws, "none", False, pin=("faults", other_faults))


def _threads(config: Config) -> RandomSource:
    n = torch.get_num_threads()
    is_set = config.train.threads > 0
    seed = f"train.threads = {config.train.threads}" if is_set else f"torch's choice, {n} here"
    return RandomSource("threads", "the order of sums, hence their last bit", seed, is_set, pin=("train.threads", n))


def _products(config: Config, task: Task) -> tuple[RandomSource, ...]:
    """Return the kernels of the matrix products, which are measured on each machine unless set."""
    n_vocab = task.tokenizer.n_vocab
    train = config.train
    here = with_kernels(config, n_vocab).train
    draws = "the order of sums, as above"
    if not has_choice(config, n_vocab):
        seed = f"{here.matmul}: nothing is measured for a model of this size"
        return (RandomSource("products", draws, seed, True),)
    matmul_is_set = train.matmul != "auto"
    rows_are_set = train.head_rows > 0
    return (
        RandomSource(
            "products",
            draws,
            f"train.matmul = {train.matmul}" + ("" if matmul_is_set else f", {here.matmul} here"),
            matmul_is_set,
            pin=("train.matmul", here.matmul),
        ),
        RandomSource(
            "head rows",
            draws,
            f"train.head_rows = {train.head_rows}" + ("" if rows_are_set else f", {here.head_rows} here"),
            rows_are_set,
            pin=("train.head_rows", here.head_rows),
        ),
    )


def _precision(config: Config, task: Task) -> RandomSource:
    precision = config.train.precision
    is_set = precision != "auto"
    here = precision if is_set else with_kernels(config, task.tokenizer.n_vocab).train.precision
    seed = f"train.precision = {precision}" + ("" if is_set else f", {here} here")
    return RandomSource("precision", "the rounding of the products", seed, is_set, pin=("train.precision", here))


def _parallel_additions(config: Config) -> RandomSource:
    device = choose_device(config.train.device)
    is_deterministic = device.type == "cpu" or torch.are_deterministic_algorithms_enabled()
    seed = f"{device.type}: {'the same order each time' if is_deterministic else 'atomic additions in any order'}"
    return RandomSource(
        "kernels", "the order of parallel additions", seed, is_deterministic, pin=("train.device", "cpu")
    )


def _hash_seed() -> RandomSource:
    value = os.environ.get("PYTHONHASHSEED", "random")
    seed = "any" if value == "random" else f"PYTHONHASHSEED = {value}"
    return RandomSource("hash seed", "nothing: no draw depends on the order of sets of strings", seed, True)

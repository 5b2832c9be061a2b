"""The sources of randomness: fingerprints repeat with their seed and change with it."""

import pytest
import torch

from tests.core.tiny import tiny
from tui_lab.core.config import settings
from tui_lab.core.training.reproducibility import RandomSource, ledger, pinned
from tui_lab.core.training.task_factory import build_task


def sources(*overrides: str, step: int = 0) -> dict[str, RandomSource]:
    config = tiny("model.dropout=0.1", *overrides)
    return {source.name: source for source in ledger(config, build_task(config), step)}


def test_ledger_repeats_and_leaves_the_generator_unchanged() -> None:
    before = torch.get_rng_state()
    assert sources(step=5) == sources(step=5)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("overrides", "moved"),
    [
        (["train.seed=1"], {"initialization", "order", "dropout"}),
        (["data.shuffle=off"], {"order"}),
        (["data.val_fraction=0.3"], {"order", "split"}),
        (["model.d_ff=9"], {"initialization"}),
    ],
)
def test_fingerprints_change_with_their_settings(overrides: list[str], moved: set[str]) -> None:
    before, after = sources(), sources(*overrides)
    assert {name for name in before if before[name].fingerprint != after[name].fingerprint} == moved


def test_order_and_dropout_change_with_the_step() -> None:
    first, later = sources(step=0), sources(step=1)
    assert {name for name in first if first[name].fingerprint != later[name].fingerprint} == {"order", "dropout"}


def test_free_sources_can_be_pinned() -> None:
    config = tiny("train.threads=0", 'faults=["unseeded_noise"]')
    free_sources = ledger(config, build_task(config))
    assert {source.name for source in free_sources if not source.pinned} == {"threads", "noise"}
    pinned_config = pinned(config, free_sources)
    assert all(source.pinned for source in ledger(pinned_config, build_task(pinned_config)))
    assert pinned_config == settings.changed(
        settings.changed(config, "faults", ()), "train.threads", torch.get_num_threads()
    )


def test_measured_kernels_are_free_until_pinned() -> None:
    config = settings.load("socrates")
    task = build_task(config)
    free = {source.name for source in ledger(config, task) if not source.pinned}
    assert {"products", "head rows"} <= free
    pinned_config = pinned(config, ledger(config, task))
    assert pinned_config.train.matmul in ("blas", "onednn") and pinned_config.train.head_rows > 0
    assert all(source.pinned for source in ledger(pinned_config, task))

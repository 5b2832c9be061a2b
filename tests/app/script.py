"""The lab over the run of a script: tests inject its messages and write its files."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np

from tests.app.fake import AppWithoutHome, FakeSource, Lab, evaluated, update
from tests.core.tiny import tiny
from tui_lab.app.screens.lab import LabScreen
from tui_lab.app.session.messages import Ready, SessionMessage
from tui_lab.app.session.source import Role
from tui_lab.core import events as ev
from tui_lab.core.config.script import (
    ScriptConfig,
    ScriptModelConfig,
    ScriptOptimConfig,
    ScriptTrainConfig,
)
from tui_lab.core.watch.batch.recorded_batch import RecordedBatch, RowHistory
from tui_lab.data.tokenizers import TableTokenizer, Tokenizer

LETTERS = TableTokenizer([bytes([code]) for code in b"abcdefghijklmnopqrstuvwxyz \n"])
CONFIG = ScriptConfig(
    command=("train.py", "--batch_size=12"),
    folder="/home/user",
    model=ScriptModelConfig(name="GPT", dropout=0.1, context=16),
    optim=ScriptOptimConfig(name="AdamW", lr=3e-4, weight_decay=0.1, grad_clip=1.0),
    settings={"batch_size": 12, "dataset": "shakespeare", "compile": False},
)
STARTED = ev.Started(
    step=0,
    steps=0,
    parameters=10_000,
    n_vocab=28,
    train_examples=0,
    val_examples=0,
    device="cpu",
    threads=2,
    resumed=False,
)


def without(section: str, *names: str) -> ScriptConfig:
    """Return CONFIG without some of its settings."""
    config: dict[str, Any] = CONFIG.model_dump()
    for name in names:
        config[section][name] = None
    return ScriptConfig.model_validate(config)


def samples_config() -> ScriptConfig:
    """Return the config of a script that trains on samples without tokens."""
    return CONFIG.model_copy(update={"train": ScriptTrainConfig(unit="samples")})


def script_ready(path: Path, config: ScriptConfig = CONFIG, tokenizer: Tokenizer = LETTERS) -> Ready:
    return Ready("train-1", str(path), config, None, tokenizer)


def batch(step: int = 29, *, offset: int | None = 1, rows: int = 12, **more: Any) -> RecordedBatch:
    """Return a batch whose targets are x shifted by `offset`, or random; the first two rows have losses."""
    T = 16
    random = np.random.default_rng(0)
    text = random.integers(0, 26, (rows, T + 8), dtype=np.int64)
    x = text[:, 4 : 4 + T]
    y = random.integers(0, 26, (rows, T)) if offset is None else text[:, 4 + offset : 4 + offset + T]
    values: dict[str, Any] = {
        "x_shape": f"int64 [{rows}, {T}]",
        "y_shape": f"int64 [{rows}, {T}]",
        "x": x,
        "y": y,
        "losses": np.full((2, T), 1.5, np.float32),
        "top": np.tile(np.arange(3), (2, T, 1)),
        "probabilities": np.tile(np.array([0.5, 0.3, 0.2], np.float32), (2, T, 1)),
        "history": history([-1] * rows),
        "micro_batches": 1,
    }
    return RecordedBatch(step=step, n_rows=rows, **values | more)


def history(last_step: list[int], recent_new: list[float] | None = None) -> RowHistory:
    """Return the history of rows that were last used at these steps; -1 for new ones."""
    last = np.array(last_step, np.int64)
    return RowHistory(last, np.where(last < 0, 1, 2), np.array(recent_new or [1.0] * 8, np.float32))


@asynccontextmanager
async def script_lab(
    path: Path,
    config: ScriptConfig = CONFIG,
    tokenizer: Tokenizer = LETTERS,
    *,
    size: tuple[int, int] = (80, 24),
    role: Role = "steering",
    steps: int = 30,
) -> AsyncIterator[Lab]:
    """A lab that follows a script after `steps` steps, or before its first one if `steps` is -1."""
    source, now = FakeSource(role=role), [0.0]
    app = AppWithoutHome(clock=lambda: now[0])
    async with app.run_test(size=size) as pilot:
        screen = LabScreen(source, lambda: now[0], memory=lambda: 2**28)
        it = Lab(pilot, screen, source, now, tiny())
        recorded: list[SessionMessage] = []
        if steps >= 0:
            updates = (update(step, epoch=0) for step in range(1, steps + 1))
            recorded += [script_ready(path, config, tokenizer), STARTED, *updates, evaluated(steps)]
        with app.batch_update():
            await app.push_screen(screen)
            await it.tell(*recorded)
        await pilot.pause()
        yield it

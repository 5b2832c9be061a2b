"""Time and memory of a run with a million events and of a corpus of a gibibyte."""

import itertools
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from tui_lab.app.session.buffer import Buffer
from tui_lab.app.session.state import LabState
from tui_lab.core import events as ev
from tui_lab.core.config import settings
from tui_lab.core.runs import folder as runs
from tui_lab.core.runs import run_files
from tui_lab.data.corpora.encode import load_corpus
from tui_lab.data.corpora.paths import BUNDLED, find_files
from tui_lab.data.tokenizers import CharTokenizer, Gpt2Tokenizer, gpt2_encoding
from tui_lab.runs.machine import machine
from tui_lab.util.child import child_environment, python_module

EVENTS = 1_000_000
DRAIN_EVERY = 500
PARTS = 20
OPENINGS = 5
MIB = 2**20
PIECES_AT_ONCE = 32
SLICES = 8


def bench_flat(events: int = EVENTS, mib: int = 1024) -> dict[str, Any]:
    """Return all figures as JSON values."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        return {"machine": machine(), "events": _events(events, folder), "corpus": _corpus(mib, folder)}


def training_events(n: int) -> Iterator[ev.Event]:
    """Yield the events of a run of n steps, evaluations included, with a noisy falling loss."""
    noise = np.random.default_rng(0).normal(0, 0.1, n).tolist()
    yield ev.Started(
        step=0,
        steps=n,
        parameters=1,
        n_vocab=10,
        train_examples=1,
        val_examples=1,
        device="cpu",
        threads=1,
        resumed=False,
    )
    for step in range(1, n + 1):
        loss = 2.3 / (1 + step / 1e4) + abs(noise[step - 1])
        yield ev.StepDone(
            step=step,
            loss=loss,
            loss_ema=loss,
            lr=1e-3,
            grad_norm=1.0,
            epoch=step // 1000,
            tokens=704 * step,
            seconds=0.006,
            tokens_per_s=1e5,
            update_ratio=1e-3 if step % 10 == 1 else None,
        )
        if step % 250 == 0:
            yield ev.Evaluated(step=step, val_loss=loss, exact_match=0.5, perplexity=None, examples=64, best=False)
    yield ev.Stopped(step=n, reason="done")


def _events(n: int, folder: Path) -> dict[str, Any]:
    """Pass the events through the event log, the app's buffer and its state; then open the run again."""
    config = settings.load("reverse")
    run = runs.create("flat", config, CharTokenizer(), folder / "run")
    buffer = Buffer[ev.Event]()
    state = LabState()
    process = psutil.Process()
    state.config = config
    seconds = []
    memory = []
    stream = run.record(training_events(n))
    per_part = n // PARTS
    for _ in range(PARTS):
        start = time.perf_counter()
        for i, event in enumerate(itertools.islice(stream, per_part)):
            buffer.put(event)
            if i % DRAIN_EVERY == 0:
                for item in buffer.drain():
                    state.apply(item)
        seconds.append((time.perf_counter() - start) / per_part)
        memory.append(process.memory_info().rss / MIB)
    for _ in stream:
        pass
    opened = []
    for _ in range(OPENINGS):
        start = time.perf_counter()
        points = len(runs.find(str(run.path)).downsampled().events())
        opened.append(time.perf_counter() - start)
    return {
        "events": n,
        "microseconds_an_event": {"first": 1e6 * seconds[1], "last": 1e6 * seconds[-1]},
        "memory_mib": {"first": memory[1], "last": memory[-1]},
        "record_mib": (run.path / run_files.EVENTS).stat().st_size / MIB,
        "open_s": statistics.median(opened),
        "events_read_to_draw": points,
    }


def _corpus(mib: int, folder: Path) -> dict[str, Any]:
    """Encode a corpus in a separate process, and a part of the same text by tiktoken's batch function."""
    text = folder / "text.txt"
    _write_text(text, mib)
    slice_mib = max(1, mib // SLICES)
    pieces = _pieces(text, slice_mib)
    encode_batch = gpt2_encoding().encode_ordinary_batch
    tiktoken_speeds = []
    for _ in range(3):
        start = time.perf_counter()
        for first in range(0, len(pieces), PIECES_AT_ONCE):
            encode_batch(pieces[first : first + PIECES_AT_ONCE], num_threads=os.cpu_count() or 1)
        tiktoken_speeds.append(slice_mib / (time.perf_counter() - start))
    start = time.perf_counter()
    child = subprocess.run(
        python_module("tui_lab.bench.long_run_cost", str(text)),
        capture_output=True,
        text=True,
        check=True,
        env=child_environment(TUI_LAB_CACHE=str(folder / "cache")),
    )
    seconds, peak, before = (float(number) for number in child.stdout.split())
    return {
        "mib": mib,
        "mib_per_s": mib / seconds,
        "tiktoken_batch_mib_per_s": statistics.median(tiktoken_speeds),
        "share": mib / seconds / statistics.median(tiktoken_speeds),
        "memory_mib": {"before": before, "peak": peak},
    }


def _write_text(path: Path, mib: int) -> None:
    """Write the bundled dialogues repeatedly, with a different line after each copy, so that no cache helps."""
    dialogues = b"".join(file.read_bytes() for file in find_files(BUNDLED))
    with path.open("wb") as out:
        for i in itertools.count():
            if out.tell() >= mib * MIB:
                return
            out.write(dialogues + f"\n\nPart {i} of {i * i}.\n\n".encode())


def _pieces(path: Path, mib: int) -> list[str]:
    with path.open("rb") as stream:
        return [stream.read(MIB).decode(errors="replace") for _ in range(mib)]


def main(path: str) -> None:
    """In the child process: print the seconds, the peak memory and the memory before, in MiB."""
    Gpt2Tokenizer().encode("warm")
    before = psutil.Process().memory_info().rss / MIB
    start = time.perf_counter()
    load_corpus(path, "gpt2")
    sys.stdout.write(f"{time.perf_counter() - start} {_peak_mib()} {before}\n")


def _peak_mib() -> float:
    """Return this process's peak memory. getrusage comes last, since its figure starts at the parent's."""
    try:
        lines = Path("/proc/self/status").read_text("utf-8").splitlines()
        return next(float(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main(sys.argv[1])

"""Runs the parts in worker processes, each part within its time limit and all within the total."""

import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, TextIO

import psutil

from tools.device.parts import DETERMINISTIC, PARTS, PartInfo

POLL_SECONDS = 0.05


@dataclass
class Outcome:
    """status: "not run" until the part begins, then "ok", "failed" or "out of time". rows: by table and name.

    A row of the same table and name replaces the earlier one.
    """

    status: str = "not run"
    seconds: float = 0.0
    error: str = ""
    rows: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {
            "status": self.status,
            "seconds": self.seconds,
            "error": self.error,
            "rows": list(self.rows.values()),
        }


class Runner:
    """device: "cuda" or "cpu". folder: for temporary files. environment: variables to set. seconds: for everything.

    worker: the module that runs parts. A dry run has no time limits but that for everything.
    """

    def __init__(
        self,
        device: str,
        folder: Path,
        environment: dict[str, str],
        seconds: float,
        *,
        dry_run: bool,
        parts: Sequence[PartInfo] = PARTS,
        worker: str = "tools.device.worker",
    ) -> None:
        self.outcomes = {part.name: Outcome() for part in parts}
        self._device = device
        self._folder = folder
        self._environment = os.environ | environment
        self._deadline = time.monotonic() + seconds
        self._dry_run = dry_run
        self._parts = parts
        self._worker = worker

    def run(self) -> dict[str, Outcome]:
        """Run all parts and return their outcomes by name."""
        if self._dry_run:
            # Importing torch is most of the time of a dry run, and no figures are disturbed by another process.
            groups = [[part for part in self._parts if (part.worker == "programs") == alone] for alone in (False, True)]
            with ThreadPoolExecutor(len(groups)) as pool:
                list(pool.map(self._run_group, groups))
        else:
            for _, group in groupby(self._parts, key=lambda part: part.worker):
                self._run_group(list(group))
        return self.outcomes

    def _run_group(self, parts: list[PartInfo]) -> None:
        """Run parts in one worker, and in another one what remains when it ends early."""
        while parts and time.monotonic() < self._deadline:
            parts = self._run_worker(parts)

    def _run_worker(self, parts: list[PartInfo]) -> list[PartInfo]:
        """Run `parts` in one process and return those that it did not come to."""
        name = parts[0].name.replace(" ", "-")
        out = self._folder / f"worker-{name}.jsonl"
        log = out.with_suffix(".log")
        out.touch()
        mode = "dry" if self._dry_run else "full"
        command = [sys.executable, "-m", self._worker, str(out), str(self._folder), self._device, mode]
        environment = dict(self._environment)
        if parts[0].worker in DETERMINISTIC:
            # cuBLAS is deterministic only with workspaces of a fixed size: docs of torch.use_deterministic_algorithms.
            environment |= {"DEVICE_DETERMINISTIC": "1", "CUBLAS_WORKSPACE_CONFIG": ":4096:8"}
        with log.open("w") as stream:
            process = subprocess.Popen(
                [*command, *(part.name for part in parts)],
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                env=environment,
                # child_environment() drops the current folder from PYTHONPATH, and tui_lab may not be installed.
                cwd=self._folder,
            )
            try:
                ended = self._follow(process, out, parts)
            finally:
                _kill(process)
        unfinished = parts[ended:]
        if unfinished and (ended == 0 or self.outcomes[unfinished[0].name].status == "running"):
            outcome = self.outcomes[unfinished.pop(0).name]
            outcome.status = "failed"
            outcome.error = f"its process ended with exit code {process.returncode}: {_last_line(log)}"
        return unfinished

    def _follow(self, process: "subprocess.Popen[bytes]", out: Path, parts: list[PartInfo]) -> int:
        """Read the worker's lines until it ends or runs out of time. Returns how many parts have ended."""
        began = time.monotonic()
        ended = 0
        with out.open(encoding="utf-8") as stream:
            while ended < len(parts):
                is_over = process.poll() is not None  # Before its last lines are read.
                for line in _new_lines(stream):
                    message = json.loads(line)
                    outcome = self.outcomes[message["part"]]
                    if message.get("event") == "begin" and outcome.status == "not run":
                        outcome.status = "running"
                        began = time.monotonic()
                    ended += _note(outcome, message, time.monotonic() - began)
                if is_over:
                    break
                now = time.monotonic()
                if ended < len(parts) and now > min(self._deadline, began + self._limit(parts[ended])):
                    outcome = self.outcomes[parts[ended].name]
                    outcome.status = "out of time"
                    outcome.seconds = now - began
                    return ended + 1
                time.sleep(POLL_SECONDS)
        return ended

    def _limit(self, part: PartInfo) -> float:
        return math.inf if self._dry_run else part.seconds


def _new_lines(stream: TextIO) -> Iterator[str]:
    """Yield the complete lines that have been written since the last call."""
    while True:
        position = stream.tell()
        line = stream.readline()
        if not line.endswith("\n"):
            stream.seek(position)
            return
        yield line


def _note(outcome: Outcome, message: dict[str, Any], seconds: float) -> bool:
    """Put a worker's message into the outcome of its part. Returns whether the part has ended."""
    outcome.seconds = seconds
    if (row := message.get("row")) is not None:
        outcome.rows[row["table"], row["name"]] = row
    if message.get("event") != "end":
        return False
    outcome.error = message["error"]
    is_ok = not outcome.error and all(row["ok"] for row in outcome.rows.values())
    outcome.status = "ok" if is_ok else "failed"
    return True


def _kill(process: "subprocess.Popen[bytes]") -> None:
    """End a process with all that it started, whatever their sessions."""
    with suppress(psutil.NoSuchProcess):
        for child in psutil.Process(process.pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                child.kill()
    process.kill()
    process.wait()


def _last_line(log: Path) -> str:
    lines = log.read_text("utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else "no output"

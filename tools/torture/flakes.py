"""The tests again and again, each time in another random order: `make flakes`.

    python -m tools.torture.flakes [--times 20] [--first SEED] [PATH…]

A line for each run: its seed, how many tests, what failed. The seed decides the order, what torch, numpy and `random`
draw, and the examples of hypothesis. Exit 1 when anything failed.
"""

import argparse
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree


@dataclass(frozen=True)
class Run:
    seed: int
    tests: int
    failed: tuple[str, ...]
    seconds: float

    def line(self) -> str:
        said = f"seed {self.seed:>10}: {self.tests} tests in {self.seconds:.0f} s, {len(self.failed)} failed"
        return "\n".join([said, *(f"    {name}" for name in self.failed)])


def once(seed: int, paths: Sequence[str], workers: str) -> Run:
    """One run of the tests in `paths` in the order of `seed`."""
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-n", workers, f"--randomly-seed={seed}",
                   f"--hypothesis-seed={seed}", f"--junit-xml={report}", *paths]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - began
        failed, tests = read(report) if report.exists() else ((), 0)
    if done.returncode not in (0, 1) or bool(done.returncode) != bool(failed):
        failed = (*failed, f"pytest ended with {done.returncode}: {(done.stdout + done.stderr)[-2000:]}")
    return Run(seed, tests, failed, seconds)


def read(report: Path) -> tuple[tuple[str, ...], int]:
    """The names of the tests that failed in a JUnit file, and how many there were."""
    cases = list(ElementTree.parse(report).iter("testcase"))  # noqa: S314 - pytest wrote it
    failed = [case for case in cases if case.find("failure") is not None or case.find("error") is not None]
    return tuple(f"{case.get('classname')}::{case.get('name')}" for case in failed), len(cases)


def main() -> int:
    parser = argparse.ArgumentParser(description="The tests again and again, in random orders.")
    parser.add_argument("paths", nargs="*", metavar="PATH", help="all tests by default")
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--first", type=int, help="seed of the first run, the next ones count on; by default any")
    parser.add_argument("--workers", default="auto", help="as pytest-xdist's -n")
    asked = parser.parse_args()
    first = random.randrange(10**9) if asked.first is None else asked.first
    bad = 0
    for seed in range(first, first + asked.times):
        run = once(seed, asked.paths, asked.workers)
        bad += bool(run.failed)
        sys.stdout.write(f"{run.line()}\n")
        sys.stdout.flush()
    sys.stdout.write(f"{asked.times} runs, {bad} with failures\n")
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())

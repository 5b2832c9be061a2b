"""Run the tests many times, each time in another random order: `make flakes`.

    python -m tools.torture.flakes [--times 20] [--first SEED] [PATH…]

Prints a line for each run: its seed, the number of tests and which failed. The seed decides the order of the tests, the
random numbers of torch, numpy and `random`, and the examples of hypothesis. Exits with 1 when a test failed.
"""

import argparse
import os
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
    """One run of the tests."""

    seed: int
    tests: int
    failed: tuple[str, ...]
    seconds: float

    def summary(self) -> str:
        """Return a line about the run, and one for each test that failed."""
        summary = f"seed {self.seed:>10}: {self.tests} tests in {self.seconds:.0f} s, {len(self.failed)} failed"
        return "\n".join([summary, *(f"    {name}" for name in self.failed)])


def run_tests(seed: int, paths: Sequence[str], workers: str) -> Run:
    """Run the tests in `paths` in the order of `seed`."""
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        seeds = [f"--randomly-seed={seed}", f"--hypothesis-seed={seed}"]
        command = [sys.executable, "-m", "pytest", "-q", "-n", workers, *seeds, f"--junit-xml={report}", *paths]
        environment = {**os.environ, "TEST_SEED": str(seed)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - start
        failed, tests = read(report) if report.exists() else ((), 0)
    if done.returncode not in (0, 1) or bool(done.returncode) != bool(failed):
        failed = (*failed, f"pytest ended with {done.returncode}: {(done.stdout + done.stderr)[-2000:]}")
    return Run(seed, tests, failed, seconds)


def read(report: Path) -> tuple[tuple[str, ...], int]:
    """Return the names of the failed tests in a JUnit file, and the number of all tests."""
    cases = list(ElementTree.parse(report).iter("testcase"))  # noqa: S314 - pytest wrote it
    failed = [case for case in cases if case.find("failure") is not None or case.find("error") is not None]
    return tuple(f"{case.get('classname')}::{case.get('name')}" for case in failed), len(cases)


def main() -> int:
    parser = argparse.ArgumentParser(description="Run the tests many times, in random orders.")
    parser.add_argument("paths", nargs="*", metavar="PATH", help="all tests by default")
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument(
        "--first", type=int, help="seed of the first run, which the next ones increase; random by default"
    )
    parser.add_argument("--workers", default="auto", help="as pytest-xdist's -n")
    arguments = parser.parse_args()
    first = random.randrange(10**9) if arguments.first is None else arguments.first
    failures = 0
    for seed in range(first, first + arguments.times):
        run = run_tests(seed, arguments.paths, arguments.workers)
        failures += bool(run.failed)
        sys.stdout.write(f"{run.summary()}\n")
        sys.stdout.flush()
    sys.stdout.write(f"{arguments.times} runs, {failures} with failures\n")
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(main())

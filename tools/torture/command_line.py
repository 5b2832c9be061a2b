"""The options that the fuzzers of configs and of command lines share."""

import argparse
import sys
from collections import Counter
from collections.abc import Callable


def run_fuzzer(about: str | None, inputs: str, fuzz: Callable[[int, int], Counter[str]]) -> None:
    """Run `fuzz(times, seed)` with the options of the command line, and print its counts."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--times", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    counts = fuzz(arguments.times, arguments.seed)
    sys.stdout.write(f"{inputs}, seed {arguments.seed}: {sum(counts.values())} tried, 0 failed; {dict(counts)}\n")

"""The command line that the fuzzers of configs and of command lines share."""

import argparse
import sys
from collections import Counter
from collections.abc import Callable


def ask(about: str | None, what: str, fuzz: Callable[[int, int], Counter[str]]) -> None:
    """Try as often and with the seed as asked, and say what was counted."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--times", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    counted = fuzz(asked.times, asked.seed)
    sys.stdout.write(f"{what}, seed {asked.seed}: {sum(counted.values())} tried, 0 failed; {dict(counted)}\n")

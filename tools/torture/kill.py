"""Kill runs repeatedly, resume them to their end, and compare them with an undisturbed run.

    python -m tools.torture.kill --times 100 --seed 0

Prints a JSON line for each kill and a summary at the end. Exits with 1 when anything was lost.
"""

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tools.torture.comparison import outcome, readable
from tools.torture.kill_times import draw, wait
from tools.torture.victim import STEPS, Place, Victim
from tui_lab.core.runs.folder import Run

KILLS_PER_RUN = 8
"""At most; then the run is resumed to its end."""
PATIENCE = 240.0
"""Seconds after which a process counts as hanging."""

Report = Callable[[dict[str, Any]], None]


@dataclass
class Torture:
    """Kill processes `kills` times in all. `seed` decides everything but the machine's own timing."""

    root: Path
    kills: int
    seed: int
    report: Report
    steps: int = STEPS
    fresh: bool = False
    """Whether each process is a new program: see tools.torture.victim."""
    modes: tuple[bool, ...] = (False, True)
    """Whether to run the app, to choose from."""
    done: int = 0
    runs: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    def run(self) -> dict[str, Any]:
        """Kill until `kills` are done; return the summary."""
        random_source = random.Random(self.seed)
        start = time.monotonic()
        expected = self._undisturbed()
        while self.done < self.kills:
            self.runs += 1
            place = Place(self.root / f"run-{self.runs}", self.steps, self.fresh)
            try:
                self._kill_repeatedly(place, random_source)
                self._compare(place, expected)
            except Exception as error:
                self.failures.append(f"run {self.runs}: {type(error).__name__}: {error}")
        return {
            "event": "summary",
            "kills": self.done,
            "runs": self.runs,
            "lost": len(self.failures),
            "failures": self.failures,
            "seed": self.seed,
            **dict(sorted(self.counts.items())),
            "seconds": round(time.monotonic() - start, 1),
        }

    def _undisturbed(self) -> dict[str, Any]:
        place = Place(self.root / "undisturbed", self.steps, self.fresh)
        start = time.monotonic()
        self._train_to_end(place, app=False)
        self.lifetime = time.monotonic() - start
        return outcome(_run_of(place))

    def _kill_repeatedly(self, place: Place, random_source: random.Random) -> None:
        """Kill one run a few times, then resume it to its end."""
        for _ in range(random_source.randint(1, KILLS_PER_RUN)):
            if self.done >= self.kills:
                break
            app = random_source.choice(self.modes)
            kill_time = draw(place, random_source, self.lifetime)
            end = End(place.start(app=app), place)
            if not wait(kill_time, end):
                self.counts["ended_before"] += 1
                end.close()
                return
            if not end.kill():
                self.counts["ended_before"] += 1
                return
            self._record_kill(place, kill_time.name, app)
        self._train_to_end(place, app=random_source.choice(self.modes))

    def _record_kill(self, place: Place, kill_time: str, app: bool) -> None:
        self.done += 1
        state = readable(_run_of(place)) if place.run else {"no_run": 1}
        self.counts.update({"app" if app else "headless": 1, kill_time: 1, **state})
        self.report({"event": "kill", "number": self.done, "run": self.runs, "app": app, "moment": kill_time} | state)

    def _train_to_end(self, place: Place, *, app: bool) -> None:
        end = End(place.start(app=app), place)
        until = time.monotonic() + PATIENCE
        while not end():
            time.sleep(0.01)
            if time.monotonic() > until:
                end.kill()
                raise AssertionError(f"not finished after {PATIENCE:g} s")
        end.close()

    def _compare(self, place: Place, expected: dict[str, Any]) -> None:
        actual = outcome(_run_of(place))
        for part, value in expected.items():
            if actual[part] != value:
                raise AssertionError(f"{part} differs: {_difference(value, actual[part])}")


class End:
    """Calling it returns whether the run is finished. `close` then waits until the process has exited by itself."""

    def __init__(self, victim: Victim, place: Place) -> None:
        self._victim = victim
        self._place = place
        self._code: int | None = None
        self._before = self._summary()

    def __call__(self) -> bool:
        if self._code is None:
            self._code = self._victim.poll()
        return self._code is not None or self._summarized()

    def _summary(self) -> tuple[int, int] | None:
        """Identify the summary file, since one that an earlier process wrote does not count."""
        try:
            status = ((self._place.run or self._place.root) / "summary.json").stat()
            return status.st_ino, status.st_mtime_ns
        except OSError:
            return None

    def _summarized(self) -> bool:
        return self._summary() not in (None, self._before)

    def kill(self) -> bool:
        """Kill the process; return whether it was still alive."""
        os.kill(self._victim.pid, signal.SIGKILL)
        while self._code is None:
            self._code = self._victim.poll()
        return self._code == -signal.SIGKILL

    def close(self) -> None:
        """Wait until the process has exited. Raises AssertionError."""
        until = time.monotonic() + PATIENCE
        while self._code is None:
            self._victim.finish()
            self._code = self._victim.poll()
            if time.monotonic() > until:
                self.kill()
                raise AssertionError("finished training and did not exit")
        if self._code != 0:
            raise AssertionError(f"exit code {self._code}")


def _run_of(place: Place) -> Run:
    if place.run is None:
        raise AssertionError("no run folder")
    return Run(place.run)


def _difference(expected: Any, actual: Any) -> str:
    if isinstance(expected, list):
        pairs = [(a, b) for a, b in zip(expected, actual, strict=False) if a != b]
        return f"{len(expected)} and {len(actual)} entries; first {pairs[:1] or [*expected, *actual][-1:]}"
    if isinstance(expected, dict):
        return ", ".join(sorted(key for key in expected.keys() | actual.keys() if expected.get(key) != actual.get(key)))
    return f"{expected} and {actual}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fresh", action="store_true", help="start every process as a new program")
    parser.add_argument("--out", type=Path, help="keep the run folders here")
    arguments = parser.parse_args()

    def report(record: dict[str, Any]) -> None:
        sys.stdout.write(json.dumps(record) + "\n")
        sys.stdout.flush()

    with tempfile.TemporaryDirectory() as folder:
        torture = Torture(arguments.out or Path(folder), arguments.times, arguments.seed, report, fresh=arguments.fresh)
        summary = torture.run()
    report(summary)
    return 1 if summary["lost"] else 0


if __name__ == "__main__":
    sys.exit(main())

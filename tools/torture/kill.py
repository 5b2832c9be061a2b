"""Kill a training again and again, let it go on, and compare it with one that nobody disturbed.

    python -m tools.torture.kill --times 100 --seed 0

A JSON line a kill on stdout, the summary last; exit code 1 where anything was lost.
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

from tools.torture.moments import draw, wait
from tools.torture.verdict import outcome, readable
from tools.torture.victim import STEPS, Place, Victim
from tui_lab.core.runs.folder import Run

KILLS_OF_ONE = 8
"""Of one training, at most; then it is let go on to its end."""
PATIENCE = 240.0
"""Seconds that a victim may live: not a measure of speed, but the end of one that hangs."""

Tell = Callable[[dict[str, Any]], None]


@dataclass
class Torture:
    """`kills` times in all. Everything it draws comes from `seed`; only the machine's own timing does not."""

    root: Path
    kills: int
    seed: int
    tell: Tell
    steps: int = STEPS
    fresh: bool = False
    """Whether each victim is a program of its own: see tools.torture.victim."""
    modes: tuple[bool, ...] = (False, True)
    """Whether under the app."""
    done: int = 0
    trainings: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    def run(self) -> dict[str, Any]:
        chance = random.Random(self.seed)
        began = time.monotonic()
        expected = self._undisturbed()
        while self.done < self.kills:
            self.trainings += 1
            place = Place(self.root / f"training-{self.trainings}", self.steps, self.fresh)
            try:
                self._torment(place, chance)
                self._compare(place, expected)
            except Exception as error:
                self.failures.append(f"training {self.trainings}: {type(error).__name__}: {error}")
        return {
            "event": "summary", "kills": self.done, "trainings": self.trainings, "lost": len(self.failures),
            "failures": self.failures, "seed": self.seed, **dict(sorted(self.counts.items())),
            "seconds": round(time.monotonic() - began, 1),
        }  # fmt: skip

    def _undisturbed(self) -> dict[str, Any]:
        place = Place(self.root / "undisturbed", self.steps, self.fresh)
        began = time.monotonic()
        self._to_the_end(place, app=False)
        self.lifetime = time.monotonic() - began
        return outcome(_run_of(place))

    def _torment(self, place: Place, chance: random.Random) -> None:
        """Kill a training up to some times, then let it come to its end."""
        for _ in range(chance.randint(1, KILLS_OF_ONE)):
            if self.done >= self.kills:
                break
            app = chance.choice(self.modes)
            moment = draw(place, chance, self.lifetime)
            over = Over(place.start(app=app), place)
            if not wait(moment, over):
                self.counts["ended_before"] += 1
                over.close()
                return
            if not over.kill():
                self.counts["ended_before"] += 1
                return
            self._note(place, moment.name, app)
        self._to_the_end(place, app=chance.choice(self.modes))

    def _note(self, place: Place, moment: str, app: bool) -> None:
        self.done += 1
        found = readable(_run_of(place)) if place.run else {"no_run": 1}
        self.counts.update({"app" if app else "headless": 1, moment: 1, **found})
        self.tell(
            {"event": "kill", "number": self.done, "training": self.trainings, "app": app, "moment": moment} | found
        )

    def _to_the_end(self, place: Place, *, app: bool) -> None:
        over = Over(place.start(app=app), place)
        until = time.monotonic() + PATIENCE
        while not over():
            time.sleep(0.01)
            if time.monotonic() > until:
                over.kill()
                raise AssertionError(f"not at its end after {PATIENCE:g} s")
        over.close()

    def _compare(self, place: Place, expected: dict[str, Any]) -> None:
        found = outcome(_run_of(place))
        for part, value in expected.items():
            if found[part] != value:
                raise AssertionError(f"{part} differs: {_difference(value, found[part])}")


class Over:
    """Called: whether the victim's training is over. Then `close` waits until the process has ended by itself."""

    def __init__(self, victim: Victim, place: Place) -> None:
        self._victim, self._place = victim, place
        self._code: int | None = None
        self._before = self._summary()

    def __call__(self) -> bool:
        if self._code is None:
            self._code = self._victim.look()
        return self._code is not None or self._summarized()

    def _summary(self) -> tuple[int, int] | None:
        """Which summary there is: one that was written before a kill says nothing of this victim."""
        try:
            found = ((self._place.run or self._place.root) / "summary.json").stat()
            return found.st_ino, found.st_mtime_ns
        except OSError:
            return None

    def _summarized(self) -> bool:
        return self._summary() not in (None, self._before)

    def kill(self) -> bool:
        """Whether it was still alive."""
        os.kill(self._victim.pid, signal.SIGKILL)
        while self._code is None:
            self._code = self._victim.look()
        return self._code == -signal.SIGKILL

    def close(self) -> None:
        until = time.monotonic() + PATIENCE
        while self._code is None:
            self._victim.finish()
            self._code = self._victim.look()
            if time.monotonic() > until:
                self.kill()
                raise AssertionError("trained to its end and did not leave")
        if self._code != 0:
            raise AssertionError(f"exit code {self._code}")


def _run_of(place: Place) -> Run:
    if place.run is None:
        raise AssertionError("there is no run")
    return Run(place.run)


def _difference(wanted: Any, found: Any) -> str:
    if isinstance(wanted, list):
        pairs = [(a, b) for a, b in zip(wanted, found, strict=False) if a != b]
        return f"{len(wanted)} and {len(found)} entries; first {pairs[:1] or [*wanted, *found][-1:]}"
    if isinstance(wanted, dict):
        return ", ".join(sorted(key for key in wanted.keys() | found.keys() if wanted.get(key) != found.get(key)))
    return f"{wanted} and {found}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fresh", action="store_true", help="start every victim as a program of its own")
    parser.add_argument("--out", type=Path, help="keep the run folders here")
    arguments = parser.parse_args()

    def tell(record: dict[str, Any]) -> None:
        sys.stdout.write(json.dumps(record) + "\n")
        sys.stdout.flush()

    with tempfile.TemporaryDirectory() as folder:
        found = Torture(arguments.out or Path(folder), arguments.times, arguments.seed, tell,
                        fresh=arguments.fresh).run()  # fmt: skip
    tell(found)
    return 1 if found["lost"] else 0


if __name__ == "__main__":
    sys.exit(main())

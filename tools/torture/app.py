"""Fuzz the app with keys, mouse events, pastes and resizes while a model trains or a run is replayed.

It must not raise or hang, and the events must reach every screen and every pane.

    python -m tools.torture.app --events 10000 --seed 0

Keys and mouse events are the bytes that a terminal sends, and pass through Textual's parser. The doctor is replaced by
a fixed report; everything else is the real app with a real run. The same seed gives the same events, but they do not
fall between the same steps.
"""

import argparse
import asyncio
import contextlib
import os
import random
import string
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from textual import events
from textual._xterm_parser import XTermParser
from textual.geometry import Size
from textual.pilot import Pilot

from tools.torture.configs import ODD_TEXTS
from tui_lab.app.actions import COMMANDS
from tui_lab.app.app import LabApp
from tui_lab.app.screens.home import Home, Pick
from tui_lab.app.screens.lab import LabScreen
from tui_lab.core.config import settings
from tui_lab.core.doctor.findings import Finding, Report
from tui_lab.core.kernels import memory_estimate
from tui_lab.core.runs.folder import list_runs

SIZES = ((20, 5), (39, 11), (40, 12), (80, 24), (99, 29), (100, 30), (120, 40), (200, 60), (1, 1))
SPECIAL = (
    "\x1b[A",
    "\x1b[B",
    "\x1b[C",
    "\x1b[D",
    "\x1b[H",
    "\x1b[F",
    "\x1b[5~",
    "\x1b[6~",
    "\t",
    "\x1b[Z",
    "\r",
    "\r",
    "\x7f",
    "\x1b[3~",
    "\x10",
    "\x13",
    "\x03",
    "\x1a",
    "\x01",
    "\x0b",
    "\x15",
    "\x16",
    "\x1bOP",
    "\x1b[I",
    "\x1b[O",
    "\x1b[1;5C",
    "\x1b[1;2B",
)
LETTERS = "".join(key for command in COMMANDS for key in command.keys.split(",") if len(key) == 1)
"""Keys of the lab's commands, those that are added later included."""
OTHER_LETTERS = string.ascii_letters
"""Keys of the panes and the other screens."""
SIGNS = " ?<>[],./+-=_()'\"\\:;!@#$%^&*{}|~`éß漢👩"
PALETTE = "\x10"
SEQUENCES = (
    *(f"{PALETTE}{command.title}\r" for command in COMMANDS),
    *(f":{text}\r" for text in ("set optim.lr 0.001", "set model.dropout", "set nothing 1", "theme", "light", "[red]")),
    *(
        f"\x1bR{keys}"
        for keys in (" j jv", " vxy", "d", "gabc\r", "/lr<0.1\r", "oO", "tword\r", "n\r", "zz", "\r", "c")
    ),
    *(f"\x1bA{keys}" for keys in ("\r", "[]xnN", "\rhjkl", "\r\x1b")),
    *(f"\x1b{number}{keys}" for number in range(1, 10) for keys in ("z", "/5\r", "jkhl", "\r", "y")),
    "\x1b2aj\r",
    "\x1b2xxYYmm[]",
    "\x1b3/500\r.,nNm",
    "\x1b4i123\r",
    "\x1b4\t0.5\t\t\t5\r",
    "\x1b1/lr\r+-\r0.1\r",
    "\x1bK6\ra",
    "\x1btttttt",
    "\x1bZZZ",
    "\x1b<<>>()()>>>>",
    "\x1b?jjj/loss\r",
)
"""Keys that go somewhere, for which single random keys would take too long."""
PLACES = ("LabScreen", "Home", "RunsScreen", "AttentionScreen", "Help", "CommandLine", "training", "replay")
"""What a long test has to reach: names of screens, and roles of labs."""
ENOUGH_FOR_ALL = 5000
"""Events after which every place must have been reached."""
FINDING = Finding(
    code="lr_too_low",
    title="the learning rate does nothing",
    evidence="[red]\x1b[31m",
    why="…",
    fix="raise it",
    drawing=("[/nothing] ▂▅",),
    proposal={"optim.lr": 0.02},
)
PATIENCE = 60.0
"""Seconds after which the app counts as hanging."""
UNHURRIED = 0.2
"""Seconds between keys whose effect is checked."""
SETTLING = 0.005
"""Seconds between other events. The app may handle them together with later ones."""
TINY = (
    "data.length=3",
    "data.n_digits=5",
    "model.d_model=8",
    "model.n_layers=1",
    "model.d_ff=8",
    "train.steps=1000000",
    "train.eval_examples=8",
    "train.eval_every=50",
    "train.threads=1",
    "train.checkpoint_every=500",
)


class FuzzedApp(LabApp):
    """Quitting starts a new run instead, or a replay of an earlier one."""

    exits = 0

    def exit(self, *arguments: Any, **named: Any) -> None:
        self.exits += 1
        self.begin()

    def begin(self, *, train: bool = False) -> None:
        """Close all screens and start a new run or, every second time, replay the newest one unless `train`."""
        while len(self.screen_stack) > 2:
            self.pop_screen()
        ended = [run for run in list_runs() if run.summary() is not None]
        if ended and self.exits % 2 and not train:
            self.open(Pick("replay", str(ended[-1].path)))
        else:
            self.open(Pick("preset", "tiny.toml"))

    def quit_now(self) -> None:
        """Really exit."""
        super().exit()


class RandomInput:
    """Draws random input events."""

    def __init__(self, draw: random.Random) -> None:
        self.draw = draw

    def event(self) -> tuple[str, Any]:
        """Draw ("type", what a terminal sends), ("escape", None) or ("size", (columns, lines))."""
        chance = self.draw.random()
        if chance < 0.04:
            return "sequence", self.draw.choice(SEQUENCES)
        if chance < 0.28:
            return "type", self.draw.choice(LETTERS)
        if chance < 0.35:
            return "type", self.draw.choice(OTHER_LETTERS)
        if chance < 0.50:
            return "type", self.draw.choice("0123456789")
        if chance < 0.68:
            return "type", self.draw.choice(SPECIAL)
        if chance < 0.74:
            return "type", self.draw.choice(SIGNS)
        if chance < 0.78:
            return "escape", None
        if chance < 0.80:
            return "type", f"\x1b[200~{self.draw.choice(ODD_TEXTS)[:300]}\x1b[201~"
        if chance < 0.83:
            return "size", self.draw.choice([*SIZES, (self.draw.randint(20, 200), self.draw.randint(5, 60))])
        return "type", self._mouse()

    def _mouse(self) -> str:
        """Draw a press, release, move, drag or scroll anywhere, in the SGR protocol (xterm's ctlseqs)."""
        column = self.draw.randint(1, 200)
        line = self.draw.randint(1, 60)
        button = self.draw.choice([0, 0, 0, 1, 2, 32, 35, 35, 64, 65, 66, 67, 16, 4])
        at = f"{column};{line}"
        if button in (0, 1, 2) and self.draw.random() < 0.7:
            return f"\x1b[<{button};{at}M\x1b[<{button};{at}m"
        return f"\x1b[<{button};{at}{self.draw.choice('MMm')}"


def innermost_frame(task: "asyncio.Task[None] | None") -> str:
    """Return the innermost function of a task and its line, or "" when the task is done."""
    at = ""
    waiting: Any = task.get_coro() if task is not None and not task.done() else None
    while (frame := getattr(waiting, "cr_frame", None)) is not None:
        at = f"{frame.f_code.co_qualname}:{frame.f_lineno}"
        waiting = waiting.cr_await
    return at


class Session:
    """The app under test and its random input."""

    def __init__(self, app: FuzzedApp, pilot: Pilot[None], source: RandomInput) -> None:
        self.app = app
        self.pilot = pilot
        self.source = source
        self.parser = XTermParser()
        self.counts: Counter[str] = Counter()
        self.places: Counter[str] = Counter()
        """How many events found the app on each screen, and in each role of the lab."""

    def send(self, kind: str, what: Any) -> None:
        """Send one event to the app."""
        driver = self.app._driver
        assert driver is not None
        if kind == "size":
            size = Size(*what)
            driver._size = size
            self.app.post_message(events.Resize(size, size))
        elif kind == "escape":
            driver.process_message(events.Key("escape", None))
        else:
            for event in self.parser.feed(what):
                driver.process_message(event)

    async def settle(self) -> None:
        """Give the app time to handle events. Raises what the app raised."""
        # Not `pause`: it waits until the process is idle, which it never is while it trains.
        await asyncio.sleep(SETTLING)
        if self.app._exception is not None:
            raise self.app._exception

    async def send_events(self, times: int) -> None:
        """Send random events. Raises AssertionError with the event that failed."""
        for number in range(times):
            kind, what = self.source.event()
            self.counts[kind] += 1
            self._note_place()
            try:
                self.send(kind, what)
                if kind == "sequence":
                    await asyncio.sleep(UNHURRIED)
                if self.source.draw.random() < 0.4:
                    await self.settle()
                if self.source.draw.random() < 0.02:
                    await asyncio.sleep(0.05)
            except Exception as error:
                raise AssertionError(f"event {number}, {kind} {what!r}: {error!r}") from error
        await self.settle()

    def _note_place(self) -> None:
        screen = self.app.screen
        self.places[type(screen).__name__] += 1
        if isinstance(screen, LabScreen):
            self.places[screen.source.role] += 1

    async def wait_for(self, condition: Callable[[], bool], what: str) -> None:
        """Wait until `condition()` is true. Raises AssertionError."""
        for _ in range(int(PATIENCE / 0.05)):
            await self.settle()
            if condition():
                return
            await asyncio.sleep(0.05)
        raise AssertionError(f"never happened: {what}; screens: {self.stack()}")

    def stack(self) -> str:
        """Describe the screens, the last on top, and the function in which each of them and the app waits."""
        return "; ".join(f"{pump!r} at {innermost_frame(pump._task)}" for pump in (*self.app.screen_stack, self.app))

    async def press(self, keys: str) -> None:
        """Press keys slowly enough that each takes effect."""
        for key in keys:
            self.send("escape", None) if key == "\x1b" else self.send("type", key)
            await asyncio.sleep(UNHURRIED)
            await self.settle()

    def phase(self) -> str:
        """Return the state of the run on the screen."""
        return self.app.screen.state.phase if isinstance(self.app.screen, LabScreen) else "no lab"

    async def check_responds(self) -> None:
        """Go to Home, start a run, pause it, continue it and quit, by keys alone."""
        self.send("size", (120, 40))
        await self.press("\x1b" * 6)
        await self.to_home()
        exits = self.app.exits
        self.app.begin(train=True)
        await self.wait_for(lambda: self.phase() == "running", "a new run is running")
        await self.press(" ")
        await self.wait_for(lambda: self.phase() == "paused", "a key pauses it")
        await self.press(" ")
        await self.wait_for(lambda: self.phase() == "running", "a key continues it")
        await self.press("q")
        await self.press("\r")
        await self.wait_for(lambda: self.app.exits > exits, "keys quit")

    async def to_home(self) -> None:
        """Leave all screens until Home is shown."""
        for _ in range(20):
            if isinstance(self.app.screen, Home):
                return
            top = self.app.screen
            if isinstance(top, LabScreen):
                # While an input has the focus, w is a letter in it.
                await self.press("\x1b")
                top.set_focus(None)
                await self.press("w\r")
            else:
                await self.press("\x1b")
            with contextlib.suppress(AssertionError):
                await self._changes(top)
        raise AssertionError(f"cannot reach Home from {self.stack()}")

    async def _changes(self, top: Any) -> None:
        for _ in range(100):
            await self.settle()
            if self.app.screen is not top:
                return
            await asyncio.sleep(0.02)


@contextlib.contextmanager
def isolated() -> Iterator[Path]:
    """Work in a temporary folder, with little memory and a doctor that reports at once."""
    previous_folder = Path.cwd()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        report = Report(findings=(FINDING,), passed=("data",))
        with (
            mock.patch.dict(os.environ, {"TUI_LAB_RUNS": "runs", "TUI_LAB_CACHE": str(folder / "cache"), "HOME": name}),
            mock.patch("tui_lab.core.doctor.diagnose.examine_in_child", lambda *a, **k: report),
            mock.patch.object(memory_estimate, "machine_bytes", lambda: 2**28),
        ):
            os.chdir(folder)
            try:
                (folder / "tiny.toml").write_text(settings.to_toml(settings.load("reverse", TINY)), "utf-8")
                yield folder
            finally:
                os.chdir(previous_folder)


async def fuzz(times: int, seed: int) -> Counter[str]:
    """Count the events. Raises AssertionError when the app raised or hangs."""
    with isolated():
        app = FuzzedApp(Pick("preset", "tiny.toml"))
        try:
            async with app.run_test(size=(120, 40)) as pilot:
                session = Session(app, pilot, RandomInput(random.Random(seed)))
                await session.wait_for(lambda: session.phase() == "running", "the first run is running")
                await session.send_events(times)
                await session.wait_for(lambda: not app.keys_under_way, "every key is carried out")
                await session.check_responds()
                session.counts["runs quit"] = app.exits
                session.counts += session.places
                missed = [place for place in PLACES if not session.places[place]]
                assert not missed or times < ENOUGH_FOR_ALL, f"the events never reached {missed}"
                app.quit_now()
        except Exception as error:
            raise AssertionError(f"replay by: python -m tools.torture.app --events {times} --seed {seed}") from error
        finally:
            for lab in app.opened:
                lab.source.close()
                lab.source.join(PATIENCE)
        return session.counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    counts = asyncio.run(fuzz(arguments.events, arguments.seed))
    sys.stdout.write(f"app, seed {arguments.seed}: {arguments.events} events, 0 exceptions; {dict(counts)}\n")


if __name__ == "__main__":
    main()

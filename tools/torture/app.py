"""Keys, mouse events, pastes and resizes at random, while a model trains: the app never raises, and answers afterwards.

    python -m tools.torture.app --events 10000 --seed 0

The keys and the mouse are typed as the bytes that a terminal sends, through Textual's own parser. The doctor answers at
once instead of in a process of its own; all else is the real app over a real training. The same seed gives the same
events; how they fall between the training's steps is the machine's.
"""

import argparse
import asyncio
import contextlib
import os
import random
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

from tools.torture.configs import OUTLANDISH
from tui_lab.app.actions import COMMANDS
from tui_lab.app.app import LabApp
from tui_lab.app.screens.chooser import Chooser, Pick
from tui_lab.app.screens.lab import LabScreen
from tui_lab.core.config import settings
from tui_lab.core.doctor.findings import Finding, Report
from tui_lab.core.kernels import memory_estimate

SIZES = ((20, 5), (39, 11), (40, 12), (80, 24), (99, 29), (100, 30), (120, 40), (200, 60), (1, 1))
SPECIAL = ("\x1b[A", "\x1b[B", "\x1b[C", "\x1b[D", "\x1b[H", "\x1b[F", "\x1b[5~", "\x1b[6~", "\t", "\x1b[Z", "\r",
           "\r", "\x7f", "\x1b[3~", "\x10", "\x13", "\x03", "\x1a", "\x01", "\x0b", "\x15", "\x16", "\x1bOP", "\x1b[I",
           "\x1b[O", "\x1b[1;5C", "\x1b[1;2B")  # fmt: skip
LETTERS = "".join(key for command in COMMANDS for key in command.keys.split(",") if len(key) == 1)
SIGNS = " ?<>[],./+-=_()'\"\\:;!@#$%^&*{}|~`éß漢👩"
FINDING = Finding("lr_too_low", "the learning rate does nothing", "[red]\x1b[31m", "…", "raise it",
                  drawing=("[/nothing] ▂▅",), proposal={"optim.lr": 0.02})  # fmt: skip
PATIENCE = 60.0
"""Seconds for what must come; not a measure of speed."""
UNHURRIED, SETTLING = 0.2, 0.005
"""Seconds in which the app takes what was sent; what it leaves for later comes with the next events."""
TINY = ("data.length=3", "data.n_digits=5", "model.d_model=8", "model.n_layers=1", "model.d_ff=8",
        "train.steps=1000000", "train.eval_examples=8", "train.eval_every=50", "train.threads=1",
        "train.checkpoint_every=500")  # fmt: skip


class FuzzedApp(LabApp):
    """Leaving is a return to the beginning."""

    exits = 0

    def exit(self, *arguments: Any, **named: Any) -> None:
        self.exits += 1
        self.begin()

    def begin(self) -> None:
        while len(self.screen_stack) > 2:
            self.pop_screen()
        self.open(Pick("preset", "tiny.toml"))

    def leave_for_good(self) -> None:
        super().exit()


class Hand:
    """Draws what a person without sense would do."""

    def __init__(self, draw: random.Random) -> None:
        self.draw = draw

    def event(self) -> tuple[str, Any]:
        """("type", what a terminal sends) or ("size", columns and lines)."""
        chance = self.draw.random()
        if chance < 0.35:
            return "type", self.draw.choice(LETTERS)
        if chance < 0.50:
            return "type", self.draw.choice("0123456789")
        if chance < 0.68:
            return "type", self.draw.choice(SPECIAL)
        if chance < 0.74:
            return "type", self.draw.choice(SIGNS)
        if chance < 0.78:
            return "escape", None
        if chance < 0.80:
            return "type", f"\x1b[200~{self.draw.choice(OUTLANDISH)[:300]}\x1b[201~"
        if chance < 0.83:
            return "size", self.draw.choice([*SIZES, (self.draw.randint(20, 200), self.draw.randint(5, 60))])
        return "type", self._mouse()

    def _mouse(self) -> str:
        """Press, release, move, drag or scroll anywhere, by SGR's protocol (xterm's ctlseqs)."""
        column, line = self.draw.randint(1, 200), self.draw.randint(1, 60)
        button = self.draw.choice([0, 0, 0, 1, 2, 32, 35, 35, 64, 65, 66, 67, 16, 4])
        at = f"{column};{line}"
        if button in (0, 1, 2) and self.draw.random() < 0.7:
            return f"\x1b[<{button};{at}M\x1b[<{button};{at}m"
        return f"\x1b[<{button};{at}{self.draw.choice('MMm')}"


def waits_at(task: "asyncio.Task[None] | None") -> str:
    """The innermost function that a task is in, and its line; "" where it is over."""
    at = ""
    waiting: Any = task.get_coro() if task is not None and not task.done() else None
    while (frame := getattr(waiting, "cr_frame", None)) is not None:
        at, waiting = f"{frame.f_code.co_qualname}:{frame.f_lineno}", waiting.cr_await
    return at


class Session:
    """The app under test, with the hand that types."""

    def __init__(self, app: FuzzedApp, pilot: Pilot[None], hand: Hand) -> None:
        self.app, self.pilot, self.hand = app, pilot, hand
        self.parser = XTermParser()
        self.counted: Counter[str] = Counter()

    def send(self, kind: str, what: Any) -> None:
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
        """Until all that was sent is done. Raises what the app raised."""
        # Not `pause`, which waits until the process is idle: with a training in it, it never is.
        await asyncio.sleep(SETTLING)
        if self.app._exception is not None:
            raise self.app._exception

    async def strike(self, times: int) -> None:
        for number in range(times):
            kind, what = self.hand.event()
            self.counted[kind] += 1
            try:
                self.send(kind, what)
                if self.hand.draw.random() < 0.4:
                    await self.settle()
                if self.hand.draw.random() < 0.02:
                    await asyncio.sleep(0.05)
            except Exception as error:
                raise AssertionError(f"event {number}, {kind} {what!r}: {error!r}") from error
        await self.settle()

    async def wait_for(self, condition: Callable[[], bool], what: str) -> None:
        for _ in range(int(PATIENCE / 0.05)):
            await self.settle()
            if condition():
                return
            await asyncio.sleep(0.05)
        raise AssertionError(f"it does not come to this: {what}; on top is {self.stuck()}")

    def stuck(self) -> str:
        """The screens, the last on top, and where the app and each of them waits."""
        return "; ".join(f"{pump!r} at {waits_at(pump._task)}" for pump in (*self.app.screen_stack, self.app))

    async def press(self, keys: str) -> None:
        """Keys of one who looks at what each of them does."""
        for key in keys:
            self.send("escape", None) if key == "\x1b" else self.send("type", key)
            await asyncio.sleep(UNHURRIED)
            await self.settle()

    def phase(self) -> str:
        return self.app.screen.state.phase if isinstance(self.app.screen, LabScreen) else "no lab"

    async def answers(self) -> None:
        """From wherever it is: to the chooser, to a training, which is paused, goes on, and is left, by keys alone."""
        self.send("size", (120, 40))
        await self.press("\x1b" * 6)
        await self.to_chooser()
        exits = self.app.exits
        self.app.begin()
        await self.wait_for(lambda: self.phase() == "running", "a new training runs")
        await self.press(" ")
        await self.wait_for(lambda: self.phase() == "paused", "it is paused by a key")
        await self.press(" ")
        await self.wait_for(lambda: self.phase() == "running", "it goes on by a key")
        await self.press("q")
        await self.press("\r")
        await self.wait_for(lambda: self.app.exits > exits, "it is left by keys")

    async def to_chooser(self) -> None:
        """Leave whatever runs."""
        for _ in range(20):
            if isinstance(self.app.screen, Chooser):
                return
            top = self.app.screen
            if isinstance(top, LabScreen):
                # Where a field has the focus, w is a letter in it.
                await self.press("\x1b")
                top.set_focus(None)
                await self.press("w\r")
            else:
                await self.press("\x1b")
            with contextlib.suppress(AssertionError):
                await self._changes(top)
        raise AssertionError(f"no way back to the chooser from {self.stuck()}")

    async def _changes(self, top: Any) -> None:
        for _ in range(100):
            await self.settle()
            if self.app.screen is not top:
                return
            await asyncio.sleep(0.02)


@contextlib.contextmanager
def ground() -> Iterator[Path]:
    """A folder of its own to train and save in, on a machine of little memory, with a doctor that answers at once."""
    here = Path.cwd()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        report = Report((FINDING,), (), ("data",), {})
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
                os.chdir(here)


async def fuzz(times: int, seed: int) -> Counter[str]:
    """Raises AssertionError with the event after which the app raised, or was dead."""
    with ground():
        app = FuzzedApp(Pick("preset", "tiny.toml"))
        try:
            async with app.run_test(size=(120, 40)) as pilot:
                session = Session(app, pilot, Hand(random.Random(seed)))
                await session.wait_for(lambda: session.phase() == "running", "the first training runs")
                await session.strike(times)
                await session.answers()
                session.counted["labs left"] = app.exits
                app.leave_for_good()
        except Exception as error:
            raise AssertionError(f"replay by: python -m tools.torture.app --events {times} --seed {seed}") from error
        finally:
            for lab in app.opened:
                lab.source.close()
                lab.source.join(PATIENCE)
        return session.counted


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    counted = asyncio.run(fuzz(asked.events, asked.seed))
    sys.stdout.write(f"app, seed {asked.seed}: {asked.events} events, 0 exceptions, alive; {dict(counted)}\n")


if __name__ == "__main__":
    main()

"""Record docs/demo.gif, the animation in README.md: the real app, driven by keys, finds and fixes two planted faults.

    python -m tools.demo [FILE.gif]

Training waits for the recorder at chosen steps, so that every recording shows the same steps. Takes about a minute.
"""

import argparse
import asyncio
import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from unittest import mock

from textual.pilot import Pilot

from tools.gif import Caption, Frame, grid_of, save_gif
from tui_lab.app.app import LabApp
from tui_lab.app.screens.home import Pick
from tui_lab.app.screens.lab import LabScreen
from tui_lab.core import events as ev
from tui_lab.core.training.trainer import Trainer

FILE = Path(__file__).parents[1] / "docs" / "demo.gif"
PRESET = "confusion-3"
OVERRIDES = ("train.threads=1", "train.matmul=onednn")
"""matmul: not measured, so that every recording computes alike."""
SIZE = (118, 34)
PATIENCE_SECONDS = 300.0
SECONDS_OF_A_FRAME = 0.12
SECONDS_TO_READ = 2.0
CHECKS_SHOWN = 5


class Gate:
    """Holds training before step `limit` of the newest trainer; commands are executed meanwhile."""

    def __init__(self) -> None:
        self.limit = 0
        self.first_limit = 0
        """Of every new trainer."""
        self._newest: Trainer | None = None

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        original = Trainer._run_commands

        def run_commands(trainer: Trainer) -> Iterator[ev.Event]:
            if trainer is not self._newest:
                self._newest = trainer
                self.limit = self.first_limit
            yield from original(trainer)
            while trainer is self._newest and trainer.step >= self.limit and not trainer.control.stop_requested:
                time.sleep(0.005)
                yield from original(trainer)

        with mock.patch.object(Trainer, "_run_commands", run_commands):
            yield


class Recorder:
    """Drives the app and collects frames."""

    def __init__(self, app: LabApp, pilot: Pilot[None], gate: Gate, now: list[float]) -> None:
        self.app = app
        self.pilot = pilot
        self.gate = gate
        self.now = now
        self.caption = Caption()
        self.frames: list[Frame] = []

    @property
    def lab(self) -> LabScreen:
        assert isinstance(self.app.screen, LabScreen)
        return self.app.screen

    async def wait_for_lab(self, previous: LabScreen | None = None) -> None:
        """Wait until a lab other than `previous` has opened its run."""

        def is_open() -> bool:
            screen = self.app.screen
            return isinstance(screen, LabScreen) and screen is not previous and screen.state.phase == "running"

        await self.wait_until(is_open)

    async def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition holds, for PATIENCE_SECONDS at most."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not condition():
                await asyncio.sleep(0.02)

    async def settle(self) -> None:
        """Draw every pane."""
        screen = self.app.screen
        if isinstance(screen, LabScreen):
            for _ in range(2):  # What the first round asks of the model is drawn by the second.
                self.now[0] += 10.0
                for _ in range(2 + len(screen.panes)):
                    screen.tick()
                await self.pilot.pause()
                await asyncio.sleep(0.05)
        await self.pilot.pause()

    async def take(self, seconds: float) -> None:
        """Add what the app shows to the recording; a frame equal to the last one makes that one longer."""
        await self.settle()
        frame = Frame(grid_of(self.app), self.caption, seconds)
        if self.frames and replace(self.frames[-1], seconds=seconds) == frame:
            self.frames[-1] = replace(frame, seconds=self.frames[-1].seconds + seconds)
        else:
            self.frames.append(frame)

    async def train(self, to: int, every: int, text: str) -> None:
        """Train up to step `to`, with a frame after every `every` steps."""
        self.caption = Caption("", text)
        while self.lab.state.step < to:
            self.gate.limit = min(to, self.lab.state.step + every)
            await self.wait_until(lambda: self.lab.state.step >= self.gate.limit)
            await self.take(SECONDS_OF_A_FRAME)

    async def press(self, key: str, text: str, seconds: float = 1.2, *, keys: Sequence[str] = ()) -> None:
        """Show the key and what it does, then press it. keys: those to press, where `key` is only what is shown."""
        self.caption = Caption(key, text)
        await self.take(0.7)
        await self.pilot.press(*(keys or (key,)))
        await self.take(seconds)

    async def wait_for_doctor(self) -> None:
        """Record some of the checks, until the result is shown."""
        lab = self.lab
        taken = 0
        while lab.doctor.busy:
            if taken < CHECKS_SHOWN:
                await self.take(SECONDS_OF_A_FRAME)
                taken += 1
            await asyncio.sleep(0.25)
        await self.take(SECONDS_OF_A_FRAME)

    async def read(self, text: str, seconds: float = SECONDS_TO_READ) -> None:
        """Keep the picture long enough to read it."""
        self.caption = Caption(self.caption.key, text)
        for _ in range(5):  # Until the losses of the batch are measured too.
            await self.settle()
        await self.take(seconds)


async def tell_story(recorder: Recorder, steps: int) -> None:
    """From the start to a loss that falls."""
    await recorder.wait_for_lab()
    await recorder.read(f"tui-lab app {PRESET}", 1.5)
    await recorder.train(steps, max(1, steps // 20), "a transformer trains on one example, again and again")
    await recorder.read("yet the loss does not fall")
    await recorder.press("3", "look at the batch", 0.8)
    await recorder.train(steps + 5, 1, "every step has another example")
    await recorder.press("K", "diagnose", 0.3)
    await recorder.wait_for_doctor()
    await recorder.press("z", "zoom: two faults, each with its evidence", 2.8)
    await recorder.press("j", "the second one", 2.2)
    for text in ("apply the fix, in a new run", "and the other one"):
        lab = recorder.lab
        await recorder.press("a", text, 0.2)
        await recorder.wait_for_lab(lab)
        await recorder.wait_for_doctor()
        await recorder.read(text, 1.2)
    await recorder.press("2", "back to the loss", 0.5)
    await recorder.train(2 * steps, max(1, steps // 20), "now it falls")
    await recorder.read("fixed", 3.0)


@contextlib.contextmanager
def temporary_runs() -> Iterator[None]:
    """Keep the runs of the recording, and its settings, out of the way."""
    previous = Path.cwd()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        os.chdir(name)
        try:
            with mock.patch.dict(os.environ, {"TUI_LAB_RUNS": "runs", "HOME": name, "XDG_CONFIG_HOME": name}):
                yield
        finally:
            os.chdir(previous)


async def record(steps: int = 60) -> list[Frame]:
    """Return the frames. steps: how long the faulty run trains before it is diagnosed."""
    first = Pick("preset", PRESET, overrides=OVERRIDES)
    return await record_app(first, SIZE, lambda recorder: tell_story(recorder, steps))


async def record_app(first: Pick, size: tuple[int, int], story: Callable[[Recorder], Awaitable[None]]) -> list[Frame]:
    """Return the frames of a story. first: what the app opens; size: columns and lines."""
    now = [0.0]
    gate = Gate()
    with temporary_runs(), gate.installed():
        app = LabApp(first, clock=lambda: now[0])
        async with app.run_test(size=size) as pilot:
            recorder = Recorder(app, pilot, gate, now)
            try:
                await story(recorder)
            finally:
                for lab in app.opened:
                    lab.source.close()
                    lab.source.join(PATIENCE_SECONDS)
    return recorder.frames


def write(file: Path, frames: list[Frame]) -> None:
    """Write the animation, and print its length and size."""
    save_gif(file, frames)
    seconds = sum(frame.seconds for frame in frames)
    sys.stdout.write(f"{file}: {len(frames)} frames, {seconds:.0f} s, {file.stat().st_size / 1e6:.2f} MB\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", nargs="?", type=Path, default=FILE)
    write(Path(parser.parse_args().file).absolute(), asyncio.run(record()))


if __name__ == "__main__":
    main()

"""Draw the pictures in docs from the real app; takes a few minutes.

`python -m tools.screenshots` draws app.svg, doctor.svg and layout-*.svg. With a checkout of nanoGPT,
`python -m tools.screenshots NANOGPT` draws watch.svg, watch-80x24.svg and watch-200x50.svg: its train.py, watched.
"""

import asyncio
import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from textual.pilot import Pilot

from tui_lab.app.app import LabApp, pick_of
from tui_lab.app.screens.lab import LabScreen
from tui_lab.core.config import settings
from tui_lab.data.corpora.paths import BUNDLED, find_files
from tui_lab.util.child import python_module

DOCS = Path(__file__).parents[1] / "docs"
PATIENCE_SECONDS = 600
SIZES = ((80, 24), (120, 40), (200, 50))


async def wait_until(pilot: Pilot[None], condition: Callable[[], bool]) -> None:
    """Let the app run until the condition holds. Raises TimeoutError."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():
            await asyncio.sleep(0.1)
    await pilot.pause(2)


async def open_lab(app: LabApp, pilot: Pilot[None]) -> LabScreen:
    await wait_until(pilot, lambda: isinstance(app.screen, LabScreen))
    assert isinstance(app.screen, LabScreen)
    return app.screen


FONT_FROM_A_NETWORK = re.compile(r"\s*@font-face \{.*?\}\n", re.DOTALL)


def save(app: LabApp, name: str) -> None:
    """Write the picture without the font that it would load from a network: any monospaced one has its place."""
    (DOCS / name).write_text(FONT_FROM_A_NETWORK.sub("\n", app.export_screenshot()), "utf-8")


async def draw_lab() -> None:
    """A text model after a live change, with a generated text, paused."""
    app = LabApp(pick_of("socrates", ["train.threads=1", "train.eval_every=50", "optim.warmup_steps=10"]))
    async with app.run_test(size=(150, 45)) as pilot:
        lab = await open_lab(app, pilot)
        for step, key in ((70, "L"), (150, "g"), (160, "space")):
            await wait_until(pilot, lambda step=step: lab.state.step >= step)  # type: ignore[misc]
            await pilot.press(key)
        await wait_until(pilot, lambda: lab.state.phase == "paused")
        await pilot.press("K")
        await wait_until(pilot, lambda: not lab.doctor.busy)
        await pilot.press("3")
        await pilot.pause(3)
        save(app, "app.svg")
        await pilot.press("2")
        for width, height in SIZES:
            await pilot.resize_terminal(width, height)
            await pilot.pause(3)
            save(app, f"layout-{width}x{height}.svg")
        await pilot.press("ctrl+q")


async def draw_doctor() -> None:
    """The findings of confusion-3."""
    steps = min(100, settings.load("confusion-3").train.steps)
    app = LabApp(pick_of("confusion-3", ["train.threads=1", f"train.steps={steps}"]))
    async with app.run_test(size=(120, 41)) as pilot:
        lab = await open_lab(app, pilot)
        await wait_until(pilot, lambda: lab.state.over)
        await pilot.press("K")
        await wait_until(pilot, lambda: not lab.doctor.busy)
        await pilot.pause(3)
        save(app, "doctor.svg")
        await pilot.press("ctrl+q")


SHAPE = "--n_layer=3 --n_head=4 --n_embd=96 --block_size=64 --batch_size=12 --dropout=0.1"
LENGTH = "--max_iters=4000 --lr_decay_iters=4000 --eval_interval=100 --eval_iters=5"
TRAIN = ["config/train_shakespeare_char.py", "--device=cpu", "--compile=False", *SHAPE.split(" "), *LENGTH.split(" ")]
WATCH_PICTURES = dict(zip(SIZES, ("watch-80x24.svg", "watch.svg", "watch-200x50.svg"), strict=True))


@contextlib.contextmanager
def watched_nanogpt(checkout: Path, folder: Path) -> Iterator[Path]:
    """Train a copy of `checkout`, watched, on the bundled text; the run's folder."""
    copy = folder / "nanoGPT"
    shutil.copytree(checkout, copy, ignore=shutil.ignore_patterns(".git", "assets", "out*"))
    data = copy / "data" / "shakespeare_char"
    text = "\n\n".join(path.read_text("utf-8") for path in find_files(BUNDLED))
    (data / "input.txt").write_text(text, "utf-8")
    subprocess.run([sys.executable, "prepare.py"], cwd=data, check=True, stdout=subprocess.DEVNULL)
    run = folder / "runs" / "nanogpt"
    command = python_module("tui_lab", "watch", "--headless", "--out", str(run), "train.py", *TRAIN)
    with subprocess.Popen(command, cwd=copy, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            yield run
        finally:
            process.terminate()


async def draw_watch(run: Path) -> None:
    """The run after a doubled learning rate, with a generated text, at three sizes."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not (run / "config.toml").exists():
            await asyncio.sleep(0.1)
    for number, (size, name) in enumerate(WATCH_PICTURES.items(), start=1):
        await draw_follower(run, size, name, first_step=150 * number, doubles_lr=number == 1)


async def draw_follower(run: Path, size: tuple[int, int], name: str, first_step: int, *, doubles_lr: bool) -> None:
    app = LabApp(pick_of(str(run), []))
    async with app.run_test(size=size) as pilot:
        lab = await open_lab(app, pilot)
        await wait_until(pilot, lambda: lab.state.step >= first_step)
        await pilot.press(*("L" if doubles_lr else ""), "g")
        await wait_until(pilot, lambda: lab.state.step >= first_step + 60)
        await pilot.press("2")
        await pilot.pause(3)
        save(app, name)
        app.exit()


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TUI_LAB_RUNS"] = folder
        os.environ["TUI_LAB_CACHE"] = f"{folder}/cache"  # Not the theme and layout of the user.
        if len(sys.argv) > 1:
            with watched_nanogpt(Path(sys.argv[1]), Path(folder)) as run:
                asyncio.run(draw_watch(run))
            return
        asyncio.run(draw_lab())
        asyncio.run(draw_doctor())


if __name__ == "__main__":
    main()

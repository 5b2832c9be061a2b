"""Draw docs/app.svg and docs/doctor.svg from the real app: `python -m tools.screenshots`. Takes a few minutes."""

import asyncio
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from textual.pilot import Pilot

from tui_lab.app.app import LabApp, pick_of
from tui_lab.app.screens.lab import LabScreen
from tui_lab.core.config import settings

DOCS = Path(__file__).parents[1] / "docs"
PATIENCE_SECONDS = 600


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


def save(app: LabApp, name: str) -> None:
    (DOCS / name).write_text(app.export_screenshot(), "utf-8")


async def draw_lab() -> None:
    """A text model after a live change, with a generated text, paused."""
    app = LabApp(pick_of("socrates", ["train.threads=1", "train.eval_every=50", "optim.warmup_steps=10"]))
    async with app.run_test(size=(150, 45)) as pilot:
        lab = await open_lab(app, pilot)
        for step, key in ((70, "L"), (150, "g"), (160, "space")):
            await wait_until(pilot, lambda step=step: lab.state.step >= step)  # type: ignore[misc]
            await pilot.press(key)
        await wait_until(pilot, lambda: lab.state.phase == "paused")
        await pilot.press("k")
        await wait_until(pilot, lambda: not lab.doctor.busy)
        await pilot.press("3")
        await pilot.pause(3)
        save(app, "app.svg")
        await pilot.press("ctrl+q")


async def draw_doctor() -> None:
    """The findings of confusion-3."""
    steps = min(100, settings.load("confusion-3").train.steps)
    app = LabApp(pick_of("confusion-3", ["train.threads=1", f"train.steps={steps}"]))
    async with app.run_test(size=(112, 41)) as pilot:
        lab = await open_lab(app, pilot)
        await wait_until(pilot, lambda: lab.state.over)
        await pilot.press("k")
        await wait_until(pilot, lambda: not lab.doctor.busy)
        await pilot.pause(3)
        save(app, "doctor.svg")
        await pilot.press("ctrl+q")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TUI_LAB_RUNS"] = folder
        asyncio.run(draw_lab())
        asyncio.run(draw_doctor())


if __name__ == "__main__":
    main()

"""The lab over a fake source: tests inject its messages and turn its clock."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from textual._context import visible_screen_stack
from textual.app import App
from textual.pilot import Pilot
from textual.screen import Screen
from textual.widgets import DataTable

from tui_lab.app.app import LabApp
from tui_lab.app.keymap import Keymap
from tui_lab.app.screens.help import Help
from tui_lab.app.screens.home import Home
from tui_lab.app.screens.lab import LabScreen
from tui_lab.app.session.messages import Ready, SessionMessage, SystemSample
from tui_lab.app.session.source import Playback, Role, Timeline
from tui_lab.app.session.state import LabState
from tui_lab.app.textual_fixes.base_screen import BlankScreen
from tui_lab.app.textual_fixes.keys_in_order import KeysInOrder
from tui_lab.core import commands as cmd
from tui_lab.core import events as ev
from tui_lab.core.config import settings
from tui_lab.core.config.schema import Config
from tui_lab.core.training.task_factory import build_task


@dataclass
class FakePlayback:
    """A replay of 400 steps that goes where it is sent."""

    paused: bool = False
    speed: float = 1.0
    position: int = 0
    timeline: Timeline = Timeline(end=400, changes=(100,), evaluations=(200, 400))
    sought: list[int] = field(default_factory=list)

    def change_speed(self, by: int) -> None:
        self.speed *= 2.0**by

    def seek(self, step: int) -> None:
        self.position = step
        self.sought.append(step)


@dataclass
class FakeSampler:
    """Gives the samples of the machine in `samples`."""

    samples: list[SystemSample] = field(default_factory=list)
    started: bool = False
    closed: bool = False

    def start(self) -> None:
        self.started = True

    def drain(self) -> list[SystemSample]:
        samples = self.samples
        self.samples = []
        return samples

    def close(self) -> None:
        self.closed = True


@dataclass
class FakeSource:
    """Gives the messages in `items`; keeps the commands sent."""

    items: list[SessionMessage] = field(default_factory=list)
    sent: list[cmd.Command] = field(default_factory=list)
    looks: list[cmd.Inspect] = field(default_factory=list)
    """Commands that inspect the model, for the test to answer."""
    snapshots: list[cmd.Snapshot] = field(default_factory=list)
    """Commands that copy the weights at the start or at an evaluation, for the test to answer."""
    started: bool = False
    closed: bool = False
    role: Role = "training"
    playback: Playback | None = None
    note: str = ""

    @property
    def pid(self) -> int | None:
        return 4321 if self.role == "training" else None

    def status_note(self) -> str:
        return self.note

    def start(self) -> None:
        self.started = True

    def send(self, command: cmd.Command) -> None:
        if isinstance(command, cmd.Snapshot) and (command.at_evaluation or not self.started):
            self.snapshots.append(command)
        elif isinstance(command, cmd.Inspect):
            self.looks.append(command)
        else:
            self.sent.append(command)

    def drain(self) -> list[SessionMessage]:
        items = self.items
        self.items = []
        return items

    def close(self) -> None:
        self.closed = True

    def join(self, seconds: float | None = None) -> bool:
        return True


def ready(preset: str = "reverse", *overrides: str) -> Ready:
    config = settings.load(preset, overrides)
    task = build_task(config)
    return Ready(f"{preset}-1", f"runs/{preset}-1", config, task, task.tokenizer)


def started(of: Ready) -> ev.Started:
    assert of.task is not None
    return ev.Started(
        step=0,
        steps=of.config.train.steps,
        parameters=1,
        n_vocab=of.tokenizer.n_vocab,
        train_examples=of.task.train.n_examples,
        val_examples=of.task.val.n_examples,
        device="cpu",
        threads=2,
        resumed=False,
    )


def update(step: int, loss: float | None = None, **more: Any) -> ev.StepDone:
    values: dict[str, Any] = {
        "loss": 2.3 / step if loss is None else loss,
        "loss_ema": 2.3 / step,
        "lr": 0.001 * step,
        "grad_norm": 1 / step,
        "epoch": 0,
        "tokens": 704 * step,
        "seconds": 0.01,
        "tokens_per_s": 70_400.0 + step,
        "update_ratio": 0.001 if step % 10 == 1 else None,
    }
    return ev.StepDone(step=step, **values | more)


def evaluated(step: int) -> ev.Evaluated:
    return ev.Evaluated(step=step, val_loss=2.4 / step, exact_match=0.5, perplexity=None, examples=8, best=True)


def state_after(*messages: SessionMessage) -> LabState:
    """Return the state of a lab over the preset `reverse` after these messages."""
    state = LabState()
    opened = ready()
    for message in (opened, started(opened), *messages):
        state.apply(message)
    return state


TICKS = 3
"""The first draws the news, the second what that asked for; the third draws nothing."""


class AppWithoutHome(LabApp):
    """Has an empty screen in the place of Home, which is faster: most tests of the lab never go there."""

    def push_screen(self, screen: Any, *args: Any, **options: Any) -> Any:
        return super().push_screen(BlankScreen() if isinstance(screen, Home) else screen, *args, **options)


@dataclass
class Lab:
    """The screen under test, with its source and its clock."""

    pilot: Pilot[None]
    screen: LabScreen
    source: FakeSource
    now: list[float]
    config: Config

    async def keys_carried_out(self) -> None:
        """Wait for all keys, also for one whose action reads a file in a thread."""
        app = self.pilot.app
        while isinstance(app, KeysInOrder) and app.keys_under_way and app._exception is None:
            await self.pilot.pause()

    async def tell(self, *messages: SessionMessage) -> None:
        """Deliver messages once all keys are carried out, and let enough time pass for a new frame."""
        await self.keys_carried_out()
        self.source.items += messages
        self.now[0] += 10.0
        for _ in range(TICKS):
            self.screen.tick()
        await self.pilot.pause()

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)
        await self.tell()

    def text(self, selector: str) -> str:
        """Return what a widget shows as plain text."""
        widget = self.screen.query_one(selector)
        lines = [widget.render_line(y).text.rstrip() for y in range(widget.size.height)]
        return "\n".join(lines)

    def painted(self) -> str:
        """Return the whole screen as plain text."""
        return painted(self.pilot.app)


async def widened(pilot: Pilot[None], table: DataTable[Any]) -> None:
    """Wait until the table is idle, which is when its columns get their widths."""
    while table._require_update_dimensions:
        await pilot.pause()


def help_text(screen: Screen[Any]) -> str:
    """Return what the help shows, a line for each row and paragraph."""
    assert isinstance(screen, Help)
    return "\n".join(block.plain for block in screen.shown)


def painted(app: App[None]) -> str:
    """Return an app's whole screen as plain text."""
    app.screen._compositor._dirty_regions.clear()
    visible_screen_stack.set(app._background_screens)  # What is seen behind a dialog.
    lines = [strip.text.replace("\xa0", " ").rstrip() for strip in app.screen._compositor.render_strips()]
    return "\n".join(lines) + "\n"


@asynccontextmanager
async def lab(
    preset: str = "reverse",
    *overrides: str,
    size: tuple[int, int] = (120, 40),
    steps: int = 30,
    keymap: Keymap | None = None,
    is_first: bool = False,
    sampler: FakeSampler | None = None,
    loaded: bool = True,
    toasts: bool = False,
    home: bool = False,
) -> AsyncIterator[Lab]:
    """A lab after `steps` steps, with an evaluation half way.

    toasts: whether they are shown. home: whether Home is below it.
    """
    source, now = FakeSource(), [0.0]
    app = (LabApp if home else AppWithoutHome)(clock=lambda: now[0], keymap=keymap)
    async with app.run_test(size=size, notifications=toasts) as pilot:
        screen = LabScreen(source, lambda: now[0], memory=lambda: 2**28, is_first=is_first, sampler=sampler)
        opened = ready(preset, *overrides)
        assert opened.trainer_config is not None
        it = Lab(pilot, screen, source, now, opened.trainer_config)
        half = steps // 2
        recorded: list[SessionMessage] = [opened, started(opened)] if loaded else []
        recorded += [update(step) for step in range(1, steps + 1)]
        if half:
            recorded.insert(recorded.index(update(half)) + 1, evaluated(half))
        with app.batch_update():  # Lays out once, and not after each message.
            await app.push_screen(screen)
            await it.tell(*recorded)
        await pilot.pause()
        screen._compositor._dirty_regions.clear()  # Of a lab as it opens, tests/app/test_looks.py paints everything.
        yield it

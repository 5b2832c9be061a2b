"""Progress of a run on stderr: a bar on a terminal, plain lines in a log, or nothing."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from tui_lab.core import events as ev
from tui_lab.core.config.schema import Config
from tui_lab.core.training.step_time import StepTime
from tui_lab.data.dataset import ReportProgress
from tui_lab.runs.event_text import event_text, step_text
from tui_lab.runs.numbers import span
from tui_lab.util.escape import printable

LINES_PER_RUN = 20
"""Steps that get their own line in a log."""


class View(Protocol):
    """Shows the events of a run while the context is open."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    def show(self, event: ev.Event) -> None: ...


class Silent:
    """Shows nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def show(self, event: ev.Event) -> None:
        return None


class Lines(Silent):
    """A line for some of the steps and for each event of interest, for logs and pipes."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._every = 1

    def show(self, event: ev.Event) -> None:
        if isinstance(event, ev.NonFinite):
            return  # It is said at the end, with how the run failed.
        if isinstance(event, ev.Started):
            self._every = max(1, event.steps // LINES_PER_RUN)
        if isinstance(event, ev.StepDone) and event.step % self._every == 0:
            self._say(step_text(event))
        if (text := event_text(event)) is not None:
            self._say(text)


@dataclass(frozen=True)
class Narrower:
    """A renderable that leaves columns free at the right."""

    renderable: RenderableType
    n_free: int

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from console.render(self.renderable, options.update_width(max(1, options.max_width - self.n_free)))


class NarrowProgress(Progress):
    """Leaves room for the ^C that a terminal echoes: in a full line it would begin another one, below the bar."""

    def get_renderable(self) -> RenderableType:
        return Narrower(super().get_renderable(), len("^C^C"))


class Bar:
    """A progress bar with the loss, the validation loss, tokens/s, the time elapsed and the ETA.

    val_loss: that of a run to resume, if it is known. config: of the run.
    """

    def __init__(self, console: Console, val_loss: float | None = None, config: Config | None = None) -> None:
        self._val_loss = "–" if val_loss is None else f"{val_loss:.4f}"
        self._progress = NarrowProgress(
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]}"),
            TextColumn("val {task.fields[val]}"),
            TextColumn("{task.fields[speed]} tok/s"),
            TextColumn("elapsed"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            console=console,
            refresh_per_second=4,
            expand=True,
        )
        self._task = self._progress.add_task("train", loss="–", val=self._val_loss, speed="–", left="ETA –", total=None)
        self._step_time = StepTime(config)  # The time between steps has pauses in it.
        self._n_steps = 0

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def show(self, event: ev.Event) -> None:
        self._step_time.add(event)
        match event:
            case ev.Started():
                self._n_steps = event.steps
                self._progress.update(self._task, total=event.steps, completed=event.step)
            case ev.Changed(key="train.steps", new=int(n_steps)):
                self._n_steps = n_steps
                self._progress.update(self._task, total=n_steps)
            case ev.Paused():
                self._progress.update(self._task, left="paused")
            case ev.Resumed():
                self._progress.update(self._task, left=self._left(event.step))
            case ev.StepDone():
                self._progress.update(
                    self._task,
                    completed=event.step,
                    loss=f"{event.loss:.4f}",
                    val=self._val_loss,
                    speed=self._speed(event),
                    left=self._left(event.step),
                )
            case ev.Evaluated():
                self._val_loss = f"{event.val_loss:.4f}"
                self._progress.update(self._task, val=self._val_loss)
        if not isinstance(event, ev.NonFinite) and (text := event_text(event)) is not None:
            self._progress.console.print(printable(text), highlight=False, markup=False)

    def _speed(self, event: ev.StepDone) -> str:
        """Return the tokens per second, with the mean time of a step, as the app shows them."""
        speed = self._step_time.tokens_per_s(event)
        return "–" if speed is None else f"{speed:,.0f}"

    def _left(self, step: int) -> str:
        """Return the time until the last step, with the mean time of a step."""
        seconds = self._step_time.seconds
        if seconds is None or not self._n_steps:
            return "ETA –"
        return f"ETA {span(max(0, self._n_steps - step) * seconds)}"


@contextmanager
def preparing(*, silent: bool = False) -> Iterator[ReportProgress | None]:
    """Yield a callback that draws a bar on stderr while a corpus is read or kernels are chosen.

    Yields None if `silent`, or if stderr is not a terminal. The bar ends with the block, since the thread that redraws
    it would paint over what follows.
    """
    if silent or not sys.stderr.isatty():
        yield None
        return
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    bar = Progress(*columns, transient=True, console=console)
    task = bar.add_task("reading")

    def report(what: str, done: int, total: int) -> None:
        bar.start()
        bar.update(task, description=what, completed=done, total=total)

    try:
        yield report
    finally:
        bar.stop()

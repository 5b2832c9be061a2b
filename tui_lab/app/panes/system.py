"""The system pane: what the machine did in the last ten minutes."""

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.text import Text
from textual.app import ComposeResult
from textual.widgets import Static

from tui_lab.app.panes.pane import Pane, fitting
from tui_lab.app.session.messages import GpuSample, SystemSample
from tui_lab.app.session.state import LabState
from tui_lab.app.session.system_history import SystemHistory
from tui_lab.app.widgets.scrolled import Page
from tui_lab.app.widgets.sparklines import LEVELS
from tui_lab.core.kernels.memory_breakdown import breakdown
from tui_lab.core.kernels.memory_estimate import size
from tui_lab.runs.numbers import span
from tui_lab.util.escape import printable

OPEN_FROM = 55
"""Lines of the terminal from which the pane is open without being asked for."""
HIGH, VERY_HIGH = 0.8, 0.95
"""Fractions of a row's scale from which its columns are yellow, and red."""
NAME_WIDTH, NOW_WIDTH, MOST_WIDTH = 10, 12, 9
LEAST_GRAPH_WIDTH = 4
MOST_LINES = 5
"""Of a graph."""
COOLEST, HOTTEST = 20.0, 100.0
"""Degrees Celsius at the ends of the scale of temperatures."""
WAITING = "measuring …"


@dataclass(frozen=True)
class Row:
    """A measurement. top: the upper end of its scale; warns: whether values near it are worth a color."""

    name: str
    values: Sequence[float]
    now: str
    most: str
    bottom: float = 0.0
    top: float = 100.0
    warns: bool = True

    def text(self, width: int, height: int = 1) -> Text:
        """Return name, graph, the present value and the largest one; in a narrow pane without the largest one.

        height: lines of the graph; the texts stand on the last one.
        """
        with_most = has_most(width)
        n_columns = max(0, width - NAME_WIDTH - NOW_WIDTH - (MOST_WIDTH if with_most else 0))
        shares = [self._share(value) for value in largest(self.values, n_columns)]
        text = Text(no_wrap=True, overflow="ellipsis")
        for level in range(height - 1, -1, -1):
            text.append(" " * NAME_WIDTH if level else f"{self.name:<{NAME_WIDTH}}", "dim")
            text.append(" " * (n_columns - len(shares)))
            for share in shares:
                text.append(level_of(share * height - level, is_lowest=level == 0), self._style(share))
            if level:
                text.append("\n")
        text.append(f"{self.now:>{NOW_WIDTH}}", "bold")
        return text.append(f"{self.most:>{MOST_WIDTH}}", "dim") if with_most else text

    def _share(self, value: float) -> float:
        """Return where a value is on the scale, from 0 to 1."""
        return min(1.0, max(0.0, (value - self.bottom) / max(1e-9, self.top - self.bottom)))

    def _style(self, share: float) -> str:
        return "cyan" if not self.warns or share < HIGH else "yellow" if share < VERY_HIGH else "red"


class SystemPane(Pane):
    number = 7
    title = "System"
    help_name = "system"
    main = "#system-page"
    hints: Sequence[str] = ("jk scroll", "z alone")
    shows_latest = True

    def __init__(self, id: str) -> None:
        super().__init__(id=id)
        self._history = SystemHistory()
        self._drawn: object = None

    def compose(self) -> ComposeResult:
        with Page(id="system-page"):
            yield Static(WAITING, id="system-text")

    def has_content(self, state: LabState) -> bool:
        return self.app.size.height >= OPEN_FROM

    def summary(self, state: LabState) -> str:
        return "" if state.system.latest is None else summary_of(state.system.latest)

    def show(self, state: LabState, now: float) -> None:
        self._history = state.system
        drawn = (state.system.latest, state.trainer_config, self.content_size)
        if drawn != self._drawn and state.system.latest is not None:
            self._drawn = drawn
            width, height = self.content_size
            estimate = step_memory(state)
            text = system_text(state.system, width, height - bool(estimate))
            if estimate:
                text.append("\n").append(fitting(estimate, width), "dim")
            self.put("#system-text", text, layout=True)
            self.show_hints()

    @property
    def state_text(self) -> str:
        """The time that the graphs cover."""
        n_samples = len(self._history.series.get("cpu", ()))
        return f"last {span(n_samples)}" if n_samples else ""

    def copied(self) -> str:
        return str(self.query_one("#system-text", Static).content)


def step_memory(state: LabState) -> list[str]:
    """Return what holds the memory of a step by the estimate, the largest part first; nothing for a user's model."""
    config = state.trainer_config
    if config is None or config.model.source or state.started is None:
        return []
    parts = breakdown(config, state.started.n_vocab, on_cpu=state.started.device.startswith("cpu"))
    sizes = {
        "activations": parts.activations,
        "optimizer": parts.optimizer,
        "weights": parts.weights,
        "gradients": parts.gradients,
        "head": parts.head + parts.logits,
    }
    largest_first = sorted(sizes.items(), key=lambda item: -item[1])
    return [f"a step: {size(parts.step)}", *(f"{name} {size(n)}" for name, n in largest_first)]


def level_of(height: float, *, is_lowest: bool) -> str:
    """Return a character as high as `height` of its line; the lowest line of a graph always has one."""
    if height <= 0 and not is_lowest:
        return " "
    return LEVELS[min(len(LEVELS) - 1, max(0, round(height * len(LEVELS)) - 1))]


def has_most(width: int) -> bool:
    """Return whether lines of this width have room for the largest value."""
    return width - NAME_WIDTH - NOW_WIDTH - MOST_WIDTH >= LEAST_GRAPH_WIDTH


def largest(values: Sequence[float], n: int) -> list[float]:
    """Return the largest value of each of at most `n` groups of neighbors of the same size."""
    if n <= 0 or not values:
        return []
    items = list(values)
    size = math.ceil(len(items) / n)
    return [max(items[start : start + size]) for start in range(0, len(items), size)]


def summary_of(sample: SystemSample) -> str:
    """Return the most important values on one line."""
    parts = [f"CPU {sample.cpu_percent:.0f} %"]
    parts += [] if sample.process_bytes is None else [memory_text(sample.process_bytes)]
    for gpu in sample.gpus:
        values = [_percent(gpu.used_percent), _degrees(gpu.temperature)]
        parts.append(" ".join(["GPU", *(value for value in values if value)]))
    parts += [_degrees(sample.cpu_temperature)] if sample.cpu_temperature is not None and not sample.gpus else []
    return " · ".join(parts)


def system_text(history: SystemHistory, width: int, height: int) -> Text:
    """Return the measurements, `width` columns wide; their graphs share `height` lines if there are enough of them."""
    assert history.latest is not None
    lines = []
    if has_most(width):
        lines.append(Text(f"{'now':>{width - MOST_WIDTH}}{'max':>{MOST_WIDTH}}", "dim", no_wrap=True))
    rows = list(rows_of(history, history.latest))
    rows_of_gpus = [list(gpu_rows(history, gpu, index)) for index, gpu in enumerate(history.latest.gpus)]
    n_rows = sum(map(len, (rows, *rows_of_gpus)))
    n_lines = max(1, min(MOST_LINES, (height - len(lines) - len(rows_of_gpus)) // n_rows))
    lines += [row.text(width, n_lines) for row in rows]
    for index, gpu in enumerate(history.latest.gpus):
        lines.append(Text(f"GPU {index}  {printable(gpu.name)}", "bold", no_wrap=True, overflow="ellipsis"))
        lines += [row.text(width, n_lines) for row in rows_of_gpus[index]]
    return Text("\n").join(lines)


def rows_of(history: SystemHistory, sample: SystemSample) -> Iterator[Row]:
    """Give the rows of processor and memory."""
    process = "this app" if sample.pid == os.getpid() else f"pid {sample.pid}"
    cpu = history.series.get("cpu", ())
    yield Row("CPU", cpu, _percent(sample.cpu_percent), _percent(max(cpu, default=0.0)), warns=False)
    if sample.process_cpu_percent is not None:
        values = history.series["process"]
        n_cores = max(100.0, *values)
        yield Row(
            process, values, _percent(sample.process_cpu_percent), _percent(max(values)), top=n_cores, warns=False
        )
    if sample.process_bytes is not None:
        values = history.series["memory"]
        most = max(values)
        yield Row("memory", values, memory_text(sample.process_bytes), short_memory(most), top=most, warns=False)
    values = history.series["used_memory"]
    used = f"{sample.used_bytes / 2**30:.1f}/{sample.total_bytes / 2**30:.0f} GiB"
    yield Row("machine", values, used, short_memory(max(values)), top=sample.total_bytes)
    if sample.cpu_temperature is not None:
        yield _temperature(history.series["cpu_temperature"], sample.cpu_temperature)


def gpu_rows(history: SystemHistory, gpu: GpuSample, index: int) -> Iterator[Row]:
    """Give the rows of a GPU: those that it measures."""

    def values_of(name: str) -> Sequence[float]:
        return history.series.get(f"{name}/{index}", ())

    if gpu.used_percent is not None:
        values = values_of("gpu")
        yield Row("load", values, _percent(gpu.used_percent), _percent(max(values)), warns=False)
    if gpu.used_bytes is not None and gpu.total_bytes:
        values = values_of("gpu_memory")
        used = f"{gpu.used_bytes / 2**30:.1f}/{gpu.total_bytes / 2**30:.0f} GiB"
        yield Row("memory", values, used, short_memory(max(values)), top=gpu.total_bytes)
    if gpu.temperature is not None:
        yield _temperature(values_of("gpu_temperature"), gpu.temperature)
    if gpu.watts is not None:
        values = values_of("gpu_watts")
        yield Row("power", values, f"{gpu.watts:.0f} W", f"{max(values):.0f} W", top=max(values), warns=False)


def memory_text(n_bytes: float) -> str:
    """Return a size in MiB, or in GiB from 10 GiB."""
    return f"{n_bytes / 2**20:,.0f} MiB" if n_bytes < 10 * 2**30 else f"{n_bytes / 2**30:.1f} GiB"


def short_memory(n_bytes: float) -> str:
    """Return a size in at most 7 characters up to 1 TiB."""
    return f"{n_bytes / 2**20:.0f} MiB" if n_bytes < 1000 * 2**20 else f"{n_bytes / 2**30:.3g} GiB"


def _temperature(values: Sequence[float], now: float) -> Row:
    return Row("temp", values, _degrees(now), _degrees(max(values)), bottom=COOLEST, top=HOTTEST)


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.0f} %"


def _degrees(value: float | None) -> str:
    return "" if value is None else f"{value:.0f} °C"

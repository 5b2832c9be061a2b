"""`tui-lab lr-find`: a learning-rate range test, drawn while it runs."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from tui_lab.app.rate_text import (
    NO_FALL,
    RangeCurve,
    Suggested,
    drawing_of,
    limits,
    loss_line,
    progress_line,
    rate_number,
    result_rows,
    run_command,
    suggested,
)
from tui_lab.app.widgets.plot import Plot
from tui_lab.app.widgets.plot_text import plot_text
from tui_lab.cli.output import console, say, write, write_json
from tui_lab.cli.progress import preparing
from tui_lab.core.config import settings
from tui_lab.core.runs.unrecorded import Source, read_source, set_up_source
from tui_lab.core.training.lr_range_test import RangeTest
from tui_lab.core.training.lr_suggestion import default_range
from tui_lab.core.training.task_factory import build_task
from tui_lab.util import files
from tui_lab.util.errors import ConfigError
from tui_lab.util.exit_codes import DONE, NOT_MET

MOST_LINES = 18
LINES_BELOW = 10
"""Of a terminal, for the result."""
REFRESHES_PER_SECOND = 8
LINES_PER_TEST = 10
OnPoint = Callable[[list[RangeCurve]], None]
"""Called with the tests so far after each update; the last one is under way."""


@dataclass(frozen=True)
class Request:
    """What to test. low, high: None for those of the optimizer."""

    source: str
    overrides: tuple[str, ...]
    low: float | None
    high: float | None
    n_rates: int
    n_seeds: int
    initial_weights: bool


def find(request: Request, save: Path | None, *, as_json: bool, quiet: bool) -> int:
    """Run the test and print its result; return the exit code: 1 if there is no suggestion."""
    source = read_source(request.source, request.overrides, initial_weights=request.initial_weights)
    low, high = _range(request, source)
    if save is not None and save.exists():
        raise ConfigError.of("exists", "the file exists; nothing was tested", key="--save", value=str(save))
    if as_json:
        curves = _test(request, source, low, high, lambda curves: _write_point(curves), silent=True)
    elif quiet:
        curves = _test(request, source, low, high, lambda curves: None, silent=True)
    else:
        with _shown(request.n_rates) as on_point:
            curves = _test(request, source, low, high, on_point, silent=False)
    suggestions = suggested(curves)
    if save is not None and suggestions:
        files.write_text(save, settings.to_toml(settings.changed(source.config, "optim.lr", suggestions[0].lr)))
    if as_json:
        write_json(result_json(request, source, curves, suggestions))
    else:
        _print(request, source, curves, suggestions, save, quiet=quiet)
    return DONE if suggestions else NOT_MET


def _range(request: Request, source: Source) -> tuple[float, float]:
    """Return the lowest and the highest rate. Raises ConfigError."""
    default_low, default_high = default_range(source.config)
    low = default_low if request.low is None else request.low
    high = default_high if request.high is None else request.high
    largest = settings.bounds("optim.lr")[1]
    if not 0 < low < high <= largest:
        message = f"must be larger than 0 and rise: --low {low:g} --high {high:g}"
        raise ConfigError.of("invalid", message, key="--low and --high", allowed=f"0 < low < high ≤ {largest:g}")
    return low, high


def _test(
    request: Request, source: Source, low: float, high: float, on_point: OnPoint, *, silent: bool
) -> list[RangeCurve]:
    """Run the tests, one for each seed."""
    with preparing(silent=silent) as report:
        task = build_task(source.config, report)
    first = source.config.train.seed
    curves: list[RangeCurve] = []
    for seed in range(first, first + request.n_seeds):
        test = RangeTest(set_up_source(source.with_seed(seed), task), low, high, request.n_rates)
        curve = RangeCurve(seed, low, high)
        curves.append(curve)
        for point in test.run():
            curve.add(point.lr, point.loss)
            on_point(curves)
        curve.diverged = test.diverged
    return curves


@contextmanager
def _shown(n_rates: int) -> Iterator[OnPoint]:
    """Draw the chart on stderr if it is a terminal; print some of the points elsewhere."""
    terminal = Console(stderr=True)
    if not terminal.is_terminal:
        yield lambda curves: _say_point(curves, n_rates)
        return
    with Live(console=terminal, auto_refresh=False) as live:
        drawn_at = 0.0
        latest: list[RangeCurve] = []

        def draw(curves: list[RangeCurve]) -> None:
            nonlocal drawn_at, latest
            latest = curves
            if terminal.get_time() - drawn_at >= 1 / REFRESHES_PER_SECOND:
                drawn_at = terminal.get_time()
                live.update(chart(curves, n_rates, terminal), refresh=True)

        yield draw
        if latest:
            live.update(chart(latest, n_rates, terminal), refresh=True)


def chart(curves: list[RangeCurve], n_rates: int, terminal: Console) -> Group:
    """Return the chart of the tests so far, with the suggestion so far."""
    suggestions = suggested(curves)
    height = max(6, min(MOST_LINES, terminal.height - LINES_BELOW))
    drawing = drawing_of(curves, suggestions[0].lr if suggestions else None)
    plot = Plot(drawing, terminal.width - 1, height, None, use_braille=terminal.encoding.startswith("utf"))
    return Group(plot_text(plot), Text(progress_line(curves[-1], n_rates), no_wrap=True))


def _say_point(curves: list[RangeCurve], n_rates: int) -> None:
    done = len(curves[-1].rates)
    if done % max(1, n_rates // LINES_PER_TEST) == 0:
        say(progress_line(curves[-1], n_rates))


def _write_point(curves: list[RangeCurve]) -> None:
    curve = curves[-1]
    write_json({"event": "rate", "seed": curve.seed, "lr": curve.rates[-1], "loss": curve.losses[-1]})


def result_json(
    request: Request, source: Source, curves: list[RangeCurve], suggestions: list[Suggested]
) -> dict[str, Any]:
    """Return the result with the whole curve of each test."""
    checkpoint = source.checkpoint
    return {
        "event": "result",
        "source": request.source,
        "weights": "initial" if checkpoint is None else f"step {checkpoint.progress.step}",
        "optimizer": source.config.optim.name,
        "lr": suggestions[0].lr if suggestions else None,
        "rule": suggestions[0].rule if suggestions else None,
        "suggestions": {one.rule: {"lr": one.lr, "low": one.low, "high": one.high} for one in suggestions},
        "tests": [
            {
                "seed": curve.seed,
                "rates": curve.rates,
                "losses": curve.losses,
                "smoothed": curve.smoothed,
                "diverged": curve.diverged,
            }
            for curve in curves
        ],
    }


def _print(
    request: Request,
    source: Source,
    curves: list[RangeCurve],
    suggestions: list[Suggested],
    save: Path | None,
    *,
    quiet: bool,
) -> None:
    if quiet:
        write(rate_number(suggestions[0].lr) if suggestions else "")
        return
    table = Table.grid(padding=(0, 2, 0, 0))
    for cells in result_rows(curves, suggestions):
        table.add_row(*map(Text, cells))
    console().print(table)
    write(loss_line(curves[-1]))
    if not suggestions:
        write(NO_FALL)
        return
    Console(stderr=True, highlight=False).print(limits(source.config.optim.name), markup=False)
    if save is not None:
        write(f"saved {save}; train it with: tui-lab run {save}")
    elif source.run is not None:
        write(f"in the app, L and H double and halve the rate of a run; or fork it: tui-lab app {request.source}")
    else:
        write(f"train with it: {run_command(request.source, request.overrides, suggestions[0].lr)}")

"""The curves of other runs, shown over those of the current one."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tui_lab.app.curve_colors import OVERLAY_STYLES
from tui_lab.app.session.curves import CURVES, LOGGED, RARE_EXTRAS
from tui_lab.app.session.progress import Progress
from tui_lab.app.session.series import Points, Series
from tui_lab.core import events as ev
from tui_lab.core.config.schema import Config
from tui_lab.core.config.script import ImportedConfig, RunConfig
from tui_lab.core.runs import folder as runs
from tui_lab.core.runs.catalog import RunRow, row_of
from tui_lab.core.runs.folder import Run
from tui_lab.util.errors import ConfigError, RunError

LETTERS = "abcdef"
MOST_OFFERED = 30
"""Runs to choose from: the newest ones."""


@dataclass(frozen=True)
class Overlay:
    """The curves of another run by the name of their metric; progress: its time and tokens at each step."""

    path: Path
    name: str
    curves: dict[str, Series]
    progress: Progress

    def points(self, metric: str) -> Points:
        series = self.curves.get(metric)
        return [] if series is None else series.points


@dataclass(frozen=True)
class Overlaid:
    """An overlay with its letter and its style."""

    overlay: Overlay
    letter: str
    style: str


def lettered(overlays: Iterable[Overlay]) -> list[Overlaid]:
    """Return the overlays that there are letters for."""
    return [Overlaid(*one) for one in zip(overlays, LETTERS, OVERLAY_STYLES, strict=False)]


def read_overlay(run: Run, *, every_loss: bool = False) -> Overlay:
    """Return the curves of a run. Raises RunError.

    every_loss: whether that of the loss is the loss of each step, with its spikes, and not the running mean.
    """
    curves: dict[str, Series] = {}
    losses = Series()
    progress = Progress()
    for event in run.downsampled().events():
        for name, value in _values(event):
            curves.setdefault(name, Series()).add(event.step, value)
        if isinstance(event, ev.StepDone):
            progress.add(event)
            if every_loss:
                losses.add(event.step, event.loss)
    if every_loss:
        curves["loss"] = losses
    return Overlay(run.path, run.name, curves, progress)


def chosen_overlays(paths: Iterable[Path], shown: Iterable[Overlay]) -> tuple[list[Overlay], list[str]]:
    """Return the overlays of the runs in these folders, and what cannot be read. shown: those that are read already."""
    by_path = {overlay.path: overlay for overlay in shown}
    overlays: list[Overlay] = []
    problems: list[str] = []
    for path in paths:
        try:
            overlays.append(by_path.get(path) or read_overlay(Run(path)))
        except (RunError, OSError) as error:
            problems.append(str(error))
    return overlays, problems


def _values(event: ev.Event) -> Iterable[tuple[str, float | None]]:
    match event:
        case ev.StepDone():
            yield "loss", event.loss_ema
            for name in CURVES:
                if name not in ("loss", "val_loss"):
                    yield name, getattr(event, name)
            for name in RARE_EXTRAS:
                yield name, (event.extra or {}).get(name)
        case ev.Evaluated():
            yield "val_loss", event.val_loss
        case ev.Logged():
            for name, value in event.values.items():
                yield LOGGED + name, value


def runs_of_same_task(config: RunConfig, current: Path) -> list[RunRow]:
    """Return the other runs whose losses can be compared with those of `config`, the newest first.

    What task an imported run had is not known, so it is offered beside every run.
    """
    task = _task(config)
    rows: list[RunRow] = []
    for run in reversed(runs.list_runs()):
        if run.path.resolve() == current.resolve():
            continue
        try:
            same = None in (task, of_run := _task(run.config())) or of_run == task
        except (ConfigError, RunError):
            continue
        if same:
            rows.append(row_of(run.path, run.name))
        if len(rows) == MOST_OFFERED:
            break
    return [row for row in rows if row.steps]


def _task(config: RunConfig) -> Sequence[object] | None:
    """Return what two runs must have in common: the task and the vocabulary, or the script; None if not known."""
    if isinstance(config, ImportedConfig):
        return None
    if not isinstance(config, Config):
        return config.command[:1]
    data = config.data
    if data.task == "reverse":
        return data.task, data.length, data.n_digits
    return data.task, data.path, data.tokenizer, data.vocab

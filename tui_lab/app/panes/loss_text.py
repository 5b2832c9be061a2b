"""Texts of the loss pane: the changes of a run, and its lowest validation loss."""

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass
from operator import itemgetter

from rich.text import Text

from tui_lab.app.session.progress import Axis, Progress
from tui_lab.app.session.series import Points
from tui_lab.app.session.state import LabState
from tui_lab.core import events as ev
from tui_lab.core.config.script import ScriptConfig
from tui_lab.runs.numbers import short_number
from tui_lab.util.escape import printable
from tui_lab.util.plural import counted


@dataclass(frozen=True)
class Scale:
    """A horizontal axis: `name` is its unit, one of which is `unit` seconds, tokens or steps."""

    axis: Axis
    name: str
    unit: float

    def at(self, progress: Progress, step: float) -> float:
        """Return the place of a step."""
        return progress.at(self.axis, step) / self.unit

    def step_at(self, progress: Progress, place: float) -> float:
        """Return the step at a place."""
        return progress.step_at(self.axis, place * self.unit)

    def placed(self, progress: Progress, points: Points) -> Points:
        """Return the points with their steps replaced by places."""
        return points if self.axis == "step" else [(self.at(progress, step), value) for step, value in points]


def scale_of(axis: Axis, unit: str, end: float) -> Scale:
    """Return a scale on which `end`, in seconds, tokens or steps, is a short number. unit: tokens or samples."""
    if axis == "step":
        return Scale(axis, "step", 1.0)
    if axis == "time":
        name, size = ("s", 1.0) if end < 600 else ("min", 60.0) if end < 36_000 else ("h", 3600.0)
        return Scale(axis, f"training time in {name}", size)
    prefix, size = ("", 1.0) if end < 1e5 else ("thousand ", 1e3) if end < 1e8 else ("million ", 1e6)
    return Scale(axis, prefix + unit, size)


LOSSES_OF_MEAN = 5
MOST_OF_LN_V = 1.1
"""From a loss above that share of ln V, there is no way from ln V to zero."""
LONGEST_BREAK = 20
"""Characters that a line may lose where it is wrapped."""
NAMED_EXTRAS = ("script_lr", "memory_mib", "gpu_memory_mib", "loss_scale", "skipped_steps", "micro_batches")


def more_text(state: LabState, length: int) -> Text:
    """Return what else was measured in the run of a script: rates, waiting for data, memory, and what it logged.

    length: characters, about; how many values do not fit is the last part.
    """
    config = state.config
    if not isinstance(config, ScriptConfig):
        return Text()
    extra = state.extra
    parts = []
    if "script_lr" in extra:
        parts.append(f"lr {extra['script_lr']:.3g} × {config.optim.lr_factor:g}")
    parts += [f"{_extra_name(name)} {value:.3g}" for name, value in extra.items() if name not in NAMED_EXTRAS]
    if state.data_share is not None:
        parts.append(f"data {state.data_share:.0%} of a step")
    memory = [(extra.get("memory_mib"), "memory"), (extra.get("gpu_memory_mib"), "GPU")]
    parts += [f"{name} {mib:,.0f} MiB" for mib, name in memory if mib is not None]
    if "micro_batches" in extra and extra["micro_batches"] > 1:
        parts.append(f"{extra['micro_batches']:g} micro-batches")
    if "loss_scale" in extra:
        parts.append(f"loss scale {extra['loss_scale']:g}")
    if extra.get("skipped_steps"):
        parts.append(f"{extra['skipped_steps']:g} skipped steps")
    parts += [f"{printable(name)} {short_number(value)}" for name, value in state.logged.items()]
    n_fitting = len(parts)
    while n_fitting > 1 and len(" · ".join(parts[:n_fitting])) > length - 2 * LONGEST_BREAK:
        n_fitting -= 1
    if n_fitting < len(parts):
        parts[n_fitting:] = [f"… {len(parts) - n_fitting} more"]
    return Text(" · ".join(parts))


def _extra_name(name: str) -> str:
    """Return how a further measurement is shown: lr/1, the rate of the second parameter group, as lr[1]."""
    kind, _, number = name.partition("/")
    return f"{kind}[{number}]" if kind == "lr" else printable(name.replace("/", " "))


def change_text(change: ev.Changed) -> str:
    if change.old == change.new:
        return f"{change.key} changed and undone at {change.step:,}"
    return f"{change.key} {change.old} → {change.new} at {change.step:,}"


def changes_text(changes: Iterable[ev.Changed]) -> str:
    return "  ".join(f"{change.key} {change.old} → {change.new}" for change in changes)


def share_of_way(state: LabState) -> float | None:
    """Return how far the mean of the last losses is from ln V to zero; None if the model has no vocabulary."""
    chance = state.chance_loss
    losses = [loss for _, loss in state.curves["loss"].points[-LOSSES_OF_MEAN:]]
    if chance is None or not losses:
        return None
    mean = sum(losses) / len(losses)
    return None if mean > MOST_OF_LN_V * chance else max(0.0, 1 - mean / chance)


def way_text(state: LabState) -> str:
    """Return how far the loss has come from ln V to zero; empty if that is not known."""
    share = share_of_way(state)
    steps = counted(state.step, "step")
    return "" if share is None else f"{share:.0%} of the way to 0 after {steps}"


def best_text(state: LabState) -> Text:
    """Return the lowest validation loss if it is not the latest or the run may stop early; otherwise an empty text."""
    best = state.best
    patience = 0 if state.trainer_config is None else state.trainer_config.train.patience
    if best is None or not (patience or state.worse):
        return Text()
    suffix = f" (patience {patience})" if patience else ""
    if state.ending == "patience":
        since = f" · stopped at step {state.step:,}{suffix}"
    elif state.worse:
        since = f" · no improvement for {counted(state.worse, 'eval')}{suffix}"
    else:
        since = f" · patience {patience}"
    restored = "" if state.restored is None else ", restored"
    title = f"best {short_number(best.val_loss)} at step {best.step:,}"
    return Text.assemble(("● ", "yellow"), (title, "bold yellow"), restored, since)


def nearest(points: Points, step: float) -> tuple[float, float] | None:
    """Return the point nearest to `step`, the earlier one of two. points: in order of step."""
    if not points:
        return None
    after = min(bisect_left(points, step, key=itemgetter(0)), len(points) - 1)
    return min(points[max(0, after - 1) : after + 1], key=lambda point: abs(point[0] - step))

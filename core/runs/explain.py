"""Which rows made a spike of the loss: the rows of a step, their history, and the steps beside it.

All numbers are those that the updates recorded: nothing is computed again.
"""

import contextlib
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from tui_lab.core import events as ev
from tui_lab.core.config import settings
from tui_lab.core.config.schema import Config
from tui_lab.core.config.script import ScriptConfig
from tui_lab.core.runs.folder import Run, refuse_imported
from tui_lab.core.runs.outlier_groups import OutlierGroup, grouped
from tui_lab.core.runs.outlier_rows import OutlierIndex, first_comparable
from tui_lab.core.runs.row_log import Records, mean_losses
from tui_lab.core.runs.spikes import Spike, SpikeIndex
from tui_lab.core.runs.suspects import suspects_of
from tui_lab.core.training.checkpoint_names import step_of
from tui_lab.core.training.task_factory import build_loader, build_task
from tui_lab.core.training.update_rows import UpdateRows
from tui_lab.data.dataset import Dataset
from tui_lab.data.skipped import neighbors
from tui_lab.util.errors import ConfigError, RunError

Ids = npt.NDArray[np.int64]
MOST_HISTORY = 100
"""Earlier draws of one example, at most; the newest stay."""
LOWER_LR = 0.5
"""Factor of the learning rate. OPT-175B was restarted from a checkpoint before a divergence with a lower rate (Zhang et
al. 2022, "OPT: Open pre-trained transformer language models", section 2.5), by a half to two thirds."""
Rewind = Literal["skip", "lower_lr"]


@dataclass(frozen=True)
class SeenRow:
    """An earlier update that drew the same example. step: as StepDone.step; loss: mean nats per target."""

    step: int
    loss: float


@dataclass(frozen=True)
class RowLoss:
    """A row of an update.

    row: its place in the batch. example: its id in the training data. offset: where it starts in the corpus, in tokens.
    loss: mean nats per target, NaN if it has none. x, y: [T]. history: oldest first, without this update, at most
    MOST_HISTORY.
    """

    row: int
    example: int
    offset: int | None
    loss: float
    x: Ids
    y: Ids
    history: tuple[SeenRow, ...]


@dataclass(frozen=True)
class StepRows:
    """The rows of step `step` (as StepDone.step), the highest loss first and those without targets last."""

    step: int
    loss: float
    rows: tuple[RowLoss, ...]


@dataclass(frozen=True)
class Explanation:
    """What is known of a step.

    at, before, after: the step and those beside it, None where their rows are not kept. suspects: the rows that made
    the spike, see `suspects_of`. checkpoint_step: of the newest checkpoint before the step; None if there is none.
    spike: the step as a spike; None if it is not the first step of one. loss_without: the step's loss without the
    suspects; None if there are none. config: the settings in force. n_examples: of the training data.
    """

    at: StepRows
    before: StepRows | None
    after: StepRows | None
    suspects: tuple[RowLoss, ...]
    checkpoint_step: int | None
    spike: Spike | None
    loss_without: float | None
    config: Config
    n_examples: int


def explain(run: Run, step: int | None = None, index: SpikeIndex | None = None) -> Explanation:
    """Explain a step of a run, by default the largest spike. index: of its spikes, for who asks more than once.

    Raises RunError, ConfigError or DataError.
    """
    refuse_script(run)
    spikes = (index or SpikeIndex(run)).read()
    if step is None:
        spike = largest(spikes)
        if spike is None:
            raise RunError.of("not_found", "the train loss has no spike; name a step to see its rows", key=run.name)
        step = spike.step
    else:
        spike = next((spike for spike in spikes if spike.step == step), None)
    records = run.row_log().read()
    update = records.at(step)
    if update is None:
        raise _not_kept(run, records, step)
    changes = [change for change in run.log.changes() if change.step < step]
    config = _config_after(run, changes)
    dataset = build_loader(config, build_task(config)).dataset
    updates = [records.at(step - 1), update, records.at(step + 1)]
    rows = _Rows(run, records, dataset, first_comparable(changes)).of([u for u in updates if u is not None])
    suspects = suspects_of(update, records, spike)
    at = rows[step]
    by_place = {row.row: row for row in at.rows}
    return Explanation(
        at=at,
        before=rows.get(step - 1),
        after=rows.get(step + 1),
        suspects=tuple(by_place[place] for place in suspects.places),
        checkpoint_step=checkpoint_before(run, step),
        spike=spike,
        loss_without=suspects.loss_without,
        config=config,
        n_examples=dataset.n_examples,
    )


@dataclass(frozen=True)
class Outliers:
    """The texts of a run that stood out most, each with the tokens x [T] of its best row. n: how many there are."""

    n: int
    groups: tuple[tuple[OutlierGroup, Ids], ...]


def find_outliers(run: Run, most: int | None) -> Outliers:
    """Return the `most` texts of a run whose rows stood out most; none where the losses of rows were not recorded.

    most: None for all. Raises RunError, ConfigError or DataError.
    """
    refuse_script(run)
    changes = list(run.log.changes())
    outliers = OutlierIndex(run.row_log()).read(first_comparable(changes))
    if not outliers:
        return Outliers(0, ())
    config = _config_after(run, changes)
    dataset = build_loader(config, build_task(config)).dataset
    if any(row.example >= dataset.n_examples for row in outliers):
        raise _data_changed(run, dataset)
    ids = np.unique([row.example for row in outliers])
    offsets = dataset.offsets(ids)
    places = None if offsets is None else dict(zip(ids.tolist(), offsets.tolist(), strict=True))
    groups = grouped(outliers, places, dataset.length)
    shown = groups[:most]
    x, _ = dataset.examples(np.array([group.best.example for group in shown], np.int64))
    return Outliers(len(groups), tuple(zip(shown, x, strict=True)))


def largest(spikes: Iterable[Spike]) -> Spike | None:
    """Return the spike whose loss is furthest above the expected one; None if there is no spike."""
    return max(spikes, key=lambda spike: spike.excess, default=None)


def refuse_script(run: Run) -> None:
    """Raises RunError for the run of a script, and for an imported one."""
    config = run.config()
    refuse_imported(config, run.name)
    if isinstance(config, ScriptConfig):
        message = (
            "recorded from a script: of its rows only the first few of the latest batch are kept, not those of every "
            "step, so the rows of a spike are not known; in the app, the batch pane shows that batch"
        )
        raise RunError.of("unavailable", message, key=run.name)


def _config_after(run: Run, changes: Iterable[ev.Changed]) -> Config:
    """Return the settings of a run after some live changes."""
    config = run.trainer_config()
    for change in changes:
        with contextlib.suppress(ConfigError):  # An event log written by another version can still be explained.
            config = settings.changed(config, change.key, change.new)
    return config


def checkpoint_before(run: Run, step: int) -> int | None:
    """Return the step of the newest checkpoint whose weights are those before the update of `step`.

    None if there is none.
    """
    return max((saved for path in run.saved_checkpoints() if (saved := step_of(path)) < step), default=None)


def rewind_settings(explanation: Explanation, how: Rewind) -> dict[str, Any]:
    """Return the settings of a fork from before the spike: without the suspects, or with a lower learning rate.

    Text that makes a window stand out may reach beyond it, so the windows that overlap it are skipped with it. Raises
    RunError if there is no suspect to skip.
    """
    config = explanation.config
    if how == "lower_lr":
        return {"optim.lr": config.optim.lr * LOWER_LR}
    if not explanation.suspects:
        message = "no row stands out from the others; rewind with a lower learning rate instead"
        raise RunError.of("not_found", message, key=f"step {explanation.at.step}")
    skipped = set(config.data.skip_examples)
    for row in explanation.suspects:
        windows = [row.example] if row.offset is None else neighbors(row.example, len(row.x), config.data.stride)
        skipped |= {window for window in windows if 0 <= window < explanation.n_examples}
    return {"data.skip_examples": tuple(sorted(skipped))}


def _not_kept(run: Run, records: Records, step: int) -> RunError:
    steps = records.steps
    if not len(steps):
        message = (
            "the losses of its rows were not recorded: it was trained with train.row_losses = false or by an "
            "earlier version"
        )
        return RunError.of("unavailable", message, key=run.name)
    message = "the losses of its rows are not kept"
    return RunError.of("not_found", message, key=f"step {step}", allowed=f"{steps[0]} to {steps[-1]}")


def _data_changed(run: Run, dataset: Dataset) -> RunError:
    message = f"the data has only {dataset.n_examples} examples now, so it has changed since this step"
    return RunError.of("conflict", message, key=run.name)


class _Rows:
    """Looks up the rows of updates: their examples and their history since step `first`."""

    def __init__(self, run: Run, records: Records, dataset: Dataset, first: int) -> None:
        self._run = run
        self._records = records
        self._dataset = dataset
        self._first = first

    def of(self, updates: list[UpdateRows]) -> dict[int, StepRows]:
        ids = np.unique(np.concatenate([update.ids for update in updates]))
        if ids[-1] >= self._dataset.n_examples:
            raise _data_changed(self._run, self._dataset)
        draws: dict[int, list[SeenRow]] = defaultdict(list)
        for example, step, loss in self._records.draws_of(ids, updates[-1].step):
            if step >= self._first:
                draws[example].append(SeenRow(step, loss))
        return {update.step: self._step(update, draws) for update in updates}

    def _step(self, update: UpdateRows, draws: dict[int, list[SeenRow]]) -> StepRows:
        x, y = self._dataset.examples(update.ids)
        offsets = self._dataset.offsets(update.ids)
        rows = [
            RowLoss(
                row=place,
                example=example,
                offset=None if offsets is None else int(offsets[place]),
                loss=loss,
                x=x[place],
                y=y[place],
                history=tuple([seen for seen in draws[example] if seen.step < update.step][-MOST_HISTORY:]),
            )
            for place, (example, loss) in enumerate(zip(update.ids.tolist(), mean_losses(update).tolist(), strict=True))
        ]
        rows.sort(key=lambda row: (-row.loss if row.loss == row.loss else float("inf"), row.row))
        return StepRows(update.step, update.loss, tuple(rows))

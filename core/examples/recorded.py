"""What the recorded batch of a watched script says about its examples: its hardest rows, and where their loss lies."""

import math
from dataclasses import replace

import numpy as np

from tui_lab.core.examples.measure import MeasuredRows
from tui_lab.core.examples.ranking import Hardest
from tui_lab.core.examples.report import By, ExamplesReport, Listed, Partition
from tui_lab.core.examples.selection import Part, Sample
from tui_lab.core.examples.shares import by_kind
from tui_lab.core.examples.shown import shown_example
from tui_lab.core.examples.token_kinds import TokenKinds
from tui_lab.core.inference.example import CellLosses
from tui_lab.core.runs.folder import Run
from tui_lab.core.watch.batch.recorded_batch import RecordedBatch, read_batch
from tui_lab.data.dataset import IGNORED
from tui_lab.data.tokenizers import Tokenizer
from tui_lab.util.errors import RunError

ONE_BATCH = "only the latest batch of a script is recorded, so there is nothing to compare it with"
NO_VALIDATION = "the validation data of a script is not recorded; use --part train"


def recorded_report(run: Run, by: By, part: Part, top: int) -> ExamplesReport:
    """Answer a question about a script's examples from its latest recorded batch. Raises RunError with the reason."""
    if by in ("wrong", "duplicates"):
        raise RunError.of("unavailable", ONE_BATCH, key="--by", value=by, allowed="loss, classes")
    if part == "val":
        raise RunError.of("unavailable", NO_VALIDATION, key="--part", value=part)
    batch = _batch_of(run)
    measured, cells = _measured(batch)
    has_top = bool((measured.predicted != IGNORED).any())
    totals = Hardest(top)
    totals.add(measured)
    tokenizer = run.tokenizer()
    listed: tuple[Listed, ...] = ()
    partitions: tuple[Partition, ...] = ()
    if by == "loss":
        rows = totals.ids.tolist()
        listed = tuple(_listed(measured, row, cells[row], tokenizer, has_top=has_top) for row in rows)
    else:
        partitions = _partitions(measured, tokenizer, run.name)
    return ExamplesReport(
        run.name,
        by,
        part,
        batch.step + 1,
        (batch.step + 1,),
        Sample(len(measured.ids), len(measured.ids), batch.n_rows, 1, None),
        loss=totals.mean_loss,
        wrong=totals.n_wrong / max(1, totals.n_targets) if has_top else None,
        n_wrong_examples=totals.n_wrong_examples if has_top else None,
        listed=listed,
        partitions=partitions,
        notes=(
            f"Measured: {len(measured.ids):,} recorded rows of the {batch.n_rows:,} of the script's latest batch, "
            f"of step {batch.step + 1:,}, as the script trained on them.",
        ),
    )


def _listed(measured: MeasuredRows, row: int, cells: CellLosses, tokenizer: Tokenizer, *, has_top: bool) -> Listed:
    shown = shown_example("train", row, None, (measured.x[row], measured.y[row]), tokenizer, cells)
    return Listed(shown if has_top else replace(shown, n_wrong=None))


def _batch_of(run: Run) -> RecordedBatch:
    try:
        batch = read_batch(run.path)
    except (OSError, ValueError) as error:
        raise RunError.of("unreadable", f"the recorded batch cannot be read: {error}", key=run.name) from error
    if batch is None:
        raise RunError.of("not_found", "the script has recorded no batch yet", key=run.name)
    if batch.x is None:
        raise RunError.of(
            "unavailable", "the script's model takes no tokens, so its rows cannot be shown", key=run.name
        )
    if batch.y is None or batch.y.shape != batch.x.shape:
        message = "its rows have no losses: the script's loss takes no targets that belong to the tokens"
        raise RunError.of("unavailable", message, key=run.name)
    if batch.n_classes:
        raise RunError.of("unavailable", "the targets of its rows are classes, not tokens", key=run.name)
    if batch.losses is None:
        raise RunError.of("unavailable", "the losses of the recorded rows were not measured", key=run.name)
    return batch


def _measured(batch: RecordedBatch) -> tuple[MeasuredRows, list[CellLosses]]:
    """Return the rows whose losses were measured, as one batch and row by row."""
    assert batch.x is not None
    assert batch.y is not None
    assert batch.losses is not None
    n = len(batch.losses)
    x = batch.x[:n]
    y = batch.y[:n]
    losses = batch.losses
    top, probabilities = batch.top, batch.probabilities
    if top is None or probabilities is None or not top.shape[-1]:
        top, probabilities = np.full((*x.shape, 1), IGNORED), np.full((*x.shape, 1), math.nan, np.float32)
    cells = [CellLosses(*row) for row in zip(losses, top, probabilities, strict=True)]
    return MeasuredRows(np.arange(n), x, y, losses, top[..., 0]), cells


def _partitions(measured: MeasuredRows, tokenizer: Tokenizer, name: str) -> tuple[Partition, ...]:
    kinds = TokenKinds(tokenizer)
    if not kinds.has_texts:
        message = "the texts of the script's tokens are not known, so they cannot be sorted into classes"
        raise RunError.of("unavailable", message, key=name)
    classes = by_kind(kinds, None)
    classes.add(measured)
    return (classes.partition(),)

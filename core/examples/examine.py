"""Answers a question about the examples of a run: from its checkpoints and its data, or from a recorded batch."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tui_lab.core.config.script import ScriptConfig
from tui_lab.core.examples.copies import THRESHOLD
from tui_lab.core.examples.duplicate_search import Search
from tui_lab.core.examples.duplicates import find_duplicates, why_exact_only
from tui_lab.core.examples.measure import OnProgress, measure, no_progress
from tui_lab.core.examples.opened import checkpoints, task_of
from tui_lab.core.examples.ranking import Hardest, WrongCounts
from tui_lab.core.examples.recorded import recorded_report
from tui_lab.core.examples.report import By, ExamplesReport, Listed
from tui_lab.core.examples.selection import DEFAULT_TARGETS, Part, Sample, part_of, select
from tui_lab.core.examples.shares import classes_of
from tui_lab.core.examples.shown import shown_examples
from tui_lab.core.inference.load_model import load_chosen
from tui_lab.core.runs.folder import Run, refuse_imported
from tui_lab.core.training import checkpoint as ckpt
from tui_lab.core.training.model_factory import build_model
from tui_lab.core.user_code.external_model import Model
from tui_lab.data.dataset import Dataset, Task
from tui_lab.util.errors import RunError

Ids = npt.NDArray[np.int64]
MOST_CHECKPOINTS = 8
"""Checkpoints that are measured, at most; of more, as many evenly spread ones."""


@dataclass(frozen=True)
class ExamplesRequest:
    """A question about a run's examples.

    step: of the weights: the newest kept checkpoint at or before it; None for the newest. top: how many examples are
    listed. most: how many are measured at most, 0 for all; None for as many as have `targets` positions at all
    checkpoints together. seed: of the sample. threshold: least Jaccard index of a near-duplicate. weights: a
    safetensors file with the weights of `step`, in place of those of a checkpoint.
    """

    by: By = "loss"
    part: Part = "train"
    step: int | None = None
    top: int = 10
    most: int | None = None
    seed: int = 0
    threshold: float = THRESHOLD
    weights: Path | None = None
    targets: int = DEFAULT_TARGETS

    def most_of(self, dataset: Dataset) -> int:
        """Return how many examples of a dataset are measured at most; 0 for all."""
        return max(1, self.targets // dataset.length) if self.most is None else self.most


def examine_examples(run: Run, request: ExamplesRequest, report: OnProgress = no_progress) -> ExamplesReport:
    """Answer a question about a run's examples. Raises ConfigError, DataError or RunError.

    Memory is bounded by the sample, whatever the size of the data.
    """
    config = run.config()
    refuse_imported(config, run.name)
    if isinstance(config, ScriptConfig):
        return recorded_report(run, request.by, request.part, request.top)
    match request.by:
        case "duplicates":
            return _duplicates(run, request, report)
        case "wrong":
            return _most_often_wrong(run, request, report)
        case "loss":
            return _hardest(run, request, report)
        case "classes":
            return _classes(run, request, report)


@dataclass(frozen=True)
class _Opened:
    """A run's data and model. ids: of the examples that are measured."""

    step: int
    task: Task
    model: Model
    dataset: Dataset
    ids: Ids
    sample: Sample


def _open(run: Run, request: ExamplesRequest, report: OnProgress) -> _Opened:
    if request.weights is None:
        checkpoints(run, request.step)  # Raises RunError if there is none.
        chosen, model, _ = load_chosen(run, "last", request.step)
        config = chosen.config
        step = chosen.step
    else:
        config = run.trainer_config()
        step = request.step or 0
        model = build_model(config, run.tokenizer().n_vocab)
        ckpt.restore_model(model, ckpt.load_weights(request.weights))
        model.eval()
    task = task_of(run, config, report)
    dataset, n_examples = part_of(task, request.part, config)
    ids, sample = select(dataset, n_examples, request.most_of(dataset), request.seed)
    return _Opened(step, task, model, dataset, ids, sample)


def _hardest(run: Run, request: ExamplesRequest, report: OnProgress) -> ExamplesReport:
    opened = _open(run, request, report)
    hardest = Hardest(request.top)
    for measured in measure(opened.model, opened.dataset, opened.ids, report):
        hardest.add(measured)
    shown = shown_examples(opened.dataset, request.part, hardest.ids, opened.task.tokenizer, opened.model)
    totals = _totals(run, request, opened, hardest, LOSS_RULE)
    return replace(totals, listed=tuple(map(Listed, shown)))


def _totals(run: Run, request: ExamplesRequest, opened: _Opened, totals: Hardest, rule: str) -> ExamplesReport:
    """Return a report of what was measured at one checkpoint, without a list."""
    return ExamplesReport(
        run.name,
        request.by,
        request.part,
        opened.step,
        (opened.step,),
        opened.sample,
        loss=totals.mean_loss,
        wrong=totals.n_wrong / max(1, totals.n_targets),
        n_wrong_examples=totals.n_wrong_examples,
        notes=(f"Measured: {opened.sample.text}.", rule),
    )


LOSS_RULE = "Sorted by the mean loss of an example's targets, in nats; without dropout."
WRONG_TARGET = "A target counts as wrong if the model's most likely token differs from it."
EXACT_RULE = (
    f"{WRONG_TARGET} A row is wrong if one of its targets is: no exact match. Sorted by how often a row is wrong."
)
FRACTION_RULE = f"{WRONG_TARGET} Sorted by the fraction of an example's targets that are wrong, over all checkpoints."


def _classes(run: Run, request: ExamplesRequest, report: OnProgress) -> ExamplesReport:
    opened = _open(run, request, report)
    all_classes = classes_of(opened.task, opened.dataset)
    totals = Hardest(0)
    for measured in measure(opened.model, opened.dataset, opened.ids, report):
        totals.add(measured)
        for classes in all_classes:
            classes.add(measured)
    report_of_totals = _totals(run, request, opened, totals, WRONG_TARGET)
    return replace(report_of_totals, partitions=tuple(classes.partition() for classes in all_classes))


def _most_often_wrong(run: Run, request: ExamplesRequest, report: OnProgress) -> ExamplesReport:
    paths = _spread(checkpoints(run, request.step), MOST_CHECKPOINTS)
    opened = _open(run, replace(request, targets=request.targets // len(paths)), report)
    model = opened.model
    dataset = opened.dataset
    ids = opened.ids
    counts = WrongCounts(ids, dataset.length)
    steps: list[int] = []
    for step in _restored(model, paths):
        what = f"checkpoint {len(steps) + 1} of {len(paths)}"
        counts.add(measure(model, dataset, ids, report, what))
        steps.append(step)
    if not steps:
        raise RunError.of("not_found", "the trainer has replaced every checkpoint meanwhile; try again", key=run.name)
    is_exact = opened.task.metric == "exact_match"
    order = counts.order_by_example() if is_exact else counts.order()
    rows = [row for row in order[: request.top].tolist() if counts.of([row])[0].n_wrong]
    shown = shown_examples(dataset, request.part, ids[rows], opened.task.tokenizer, model)
    return ExamplesReport(
        run.name,
        request.by,
        request.part,
        steps[-1],
        tuple(steps),
        opened.sample,
        wrong=counts.fraction,
        n_wrong_examples=counts.n_ever_wrong,
        listed=tuple(Listed(example, wrong=count) for example, count in zip(shown, counts.of(rows), strict=True)),
        notes=(f"Measured: {opened.sample.text}.", EXACT_RULE if is_exact else FRACTION_RULE),
    )


def _restored(model: Model, paths: list[Path]) -> Iterator[int]:
    """Give the model the weights of one checkpoint after the other; yield their steps."""
    for path in paths:
        try:
            progress, weights = ckpt.load_model(path)
        except RunError:
            if path.exists():
                raise
            continue  # A live run replaced it.
        ckpt.restore_model(model, weights)
        model.eval()
        yield progress.step


def _spread(paths: list[Path], most: int) -> list[Path]:
    """Return at most `most` of the paths, evenly spread, the last one among them."""
    numbers = np.unique(np.linspace(0, len(paths) - 1, min(most, len(paths))).round().astype(int))
    return [paths[number] for number in numbers.tolist()]


def _duplicates(run: Run, request: ExamplesRequest, report: OnProgress) -> ExamplesReport:
    config = run.trainer_config()
    task = task_of(run, config, report)
    dataset, n_examples = part_of(task, request.part, config)
    ids, sample = select(dataset, n_examples, request.most_of(dataset), request.seed)
    within = find_duplicates(Search(task, request.part, request.part, request.top, request.threshold, report), ids)
    val_ids, val_sample = select(task.val, task.val.n_examples, request.most_of(task.val), request.seed)
    leaked = find_duplicates(Search(task, "val", "train", request.top, request.threshold, report), val_ids)
    exact_only = why_exact_only(task)
    near = f"Near-duplicates: {exact_only}." if exact_only else NEAR_RULE.format(f"{request.threshold:g}")
    return ExamplesReport(
        run.name,
        request.by,
        request.part,
        sample=sample,
        listed=within.listed,
        n_exact=within.n_exact,
        n_near=within.n_near,
        leaked=leaked.listed,
        leak_sample=val_sample,
        n_leaked=leaked.n_exact,
        n_leaked_near=leaked.n_near,
        notes=(f"Looked for: {sample.text}, in all of the part.", near),
    )


NEAR_RULE = (
    "Near-duplicates have a Jaccard index of at least {} of their 5-grams of tokens, wherever they begin; windows that "
    "share a target are not compared."
)

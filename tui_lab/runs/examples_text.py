"""Sentences about the examples of a run, for the command and the app."""

from collections.abc import Iterator

from tui_lab.core.examples.report import ExamplesReport, Listed, Place

BY_TITLES = {
    "loss": "hardest examples",
    "wrong": "examples most often wrong",
    "duplicates": "duplicates",
    "classes": "loss by class of target",
}
PART_NAMES = {"train": "training data", "val": "validation data"}


def summary_lines(report: ExamplesReport) -> Iterator[str]:
    """Give the title of a report, its figures, and what was measured."""
    yield f"{report.run}: {title(report)}"
    if figures := figures_text(report):
        yield figures
    yield from report.notes


def title(report: ExamplesReport) -> str:
    """Return what a report is about, and of which weights."""
    text = f"{BY_TITLES[report.by]}, {PART_NAMES[report.part]}"
    if len(report.steps) > 1:
        return f"{text}, checkpoints of steps {', '.join(f'{step:,}' for step in report.steps)}"
    return text if report.step is None else f"{text}, step {report.step:,}"


def figures_text(report: ExamplesReport) -> str:
    """Return the figures over all examples that were measured."""
    if report.by == "duplicates":
        return _copies_text(report)
    n = 0 if report.sample is None else report.sample.n
    parts = [] if report.loss is None else [f"mean loss {report.loss:.4f}"]
    if report.wrong is not None:
        parts.append(f"{100 * report.wrong:.1f} % of the targets wrong")
    if report.n_wrong_examples is not None:
        parts.append(f"in {report.n_wrong_examples:,} of {n:,} examples")
    return ", ".join(parts)


def _copies_text(report: ExamplesReport) -> str:
    n = 0 if report.sample is None else report.sample.n
    n_val = 0 if report.leak_sample is None else report.leak_sample.n
    own = f"of {n:,} examples {report.n_exact:,} have an equal copy, {report.n_near:,} a near one only"
    leaked = f"of {n_val:,} in validation {report.n_leaked:,} are in training, {report.n_leaked_near:,} nearly"
    return f"{own}; {leaked}"


def facts(listed: Listed, *, with_loss: bool = True) -> str:
    """Return what identifies an example, and what brought it into the list."""
    example = listed.example
    parts = [name(example.example, example.offset)]
    if listed.wrong is not None:
        wrong = listed.wrong
        parts.append(f"wrong at {_times(wrong.n_checkpoints, 'checkpoint')}")
        parts.append(f"{wrong.n_wrong:,} of {wrong.n_predictions:,} predictions wrong")
        parts.append(f"{wrong.n_always:,} targets always wrong")
        if wrong.n_forgotten:
            parts.append(f"forgotten {_times(wrong.n_forgotten, 'time')}")
    if listed.copies is not None:
        parts.append(f"{_times(listed.copies.n_exact, 'equal copy', 'equal copies')}, {listed.copies.n_near:,} near")
    if with_loss and example.loss is not None:
        parts.append(f"loss {example.loss:.4f}")
    if listed.wrong is None and example.n_wrong is not None:
        parts.append(f"{example.n_wrong:,} of {example.n_targets:,} targets wrong")
    return ", ".join(parts)


def name(example: int | None, offset: int | None) -> str:
    """Return what identifies an example."""
    if example is None:
        return f"token {offset:,}"
    return f"example {example:,}" if offset is None else f"example {example:,} (token {offset:,})"


def place_text(place: Place) -> str:
    """Return where a copy is, and how similar it is."""
    how = "equal" if place.exact else f"similarity {place.similarity:.2f}"
    return f"{name(place.example, place.offset)}, {PART_NAMES[place.part]}, {how}"


def _times(n: int, one: str, many: str = "") -> str:
    return f"{n:,} {one if n == 1 else many or f'{one}s'}"

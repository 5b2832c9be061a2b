"""`tui-lab lr-find`: a learning-rate range test, drawn while it runs."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tui_lab.cli.lr_find_progress import JsonProgress, Progress, shown_progress
from tui_lab.cli.lr_find_subjects import Subject
from tui_lab.cli.output import console, say, write, write_json
from tui_lab.cli.signals import interrupt_on_signals
from tui_lab.core.watch.rate_test.rated_group import groups_line
from tui_lab.text.rate_text import (
    NO_FALL,
    NOISE,
    SAME_CURVES,
    RangeCurve,
    Suggested,
    are_equal,
    are_noisy,
    limits,
    loss_line,
    rate_number,
    result_rows,
    suggested,
)
from tui_lab.util.errors import ConfigError
from tui_lab.util.escape import printable
from tui_lab.util.exit_codes import DONE, NOT_MET

FEWEST_RATES = 10
"""With fewer a curve says nothing."""


def find(subject: Subject, n_rates: int, n_seeds: int, save: Path | None, *, as_json: bool, quiet: bool) -> int:
    """Run the test and print its result; return the exit code: 1 if there is no suggestion."""
    if save is not None and save.exists():
        raise ConfigError.of("exists", "the file exists; nothing was tested", key="--save", value=str(save))
    subject.prepare(silent=as_json or quiet)
    with interrupt_on_signals():  # So that the process of a script ends with this one.
        if as_json:
            curves = _test(subject, n_seeds, JsonProgress())
        elif quiet:
            curves = _test(subject, n_seeds, Progress())
        else:
            with shown_progress(n_rates) as progress:
                curves = _test(subject, n_seeds, progress)
    suggestions = suggested(curves)
    if save is not None and suggestions:
        subject.save(save, suggestions[0].lr)
    if as_json:
        write_json(result_json(subject, curves, suggestions))
    else:
        _print(subject, curves, suggestions, save, quiet=quiet)
    return DONE if suggestions else NOT_MET


def _test(subject: Subject, n_seeds: int, progress: Progress) -> list[RangeCurve]:
    """Run the tests, one for each seed."""
    curves: list[RangeCurve] = []
    for seed in range(subject.first_seed, subject.first_seed + n_seeds):
        n_possible = _test_seed(subject, seed, curves, progress)
        if n_possible >= FEWEST_RATES:  # The script is over before the highest rates, which may be the best ones.
            curves.pop()
            subject.shorten(n_possible)
            progress.shorten(n_possible)
            _test_seed(subject, seed, curves, progress)
    return curves


def _test_seed(subject: Subject, seed: int, curves: list[RangeCurve], progress: Progress) -> int:
    """Run a test and add its curve; return how many rates the script has updates for, 0 if they were enough."""
    test = subject.test(seed)
    progress.begin(curves)
    with closing(test.run()) as points:
        point = next(points, None)
        curve = RangeCurve(seed, test.low or 0.0, test.high or 0.0)
        curves.append(curve)
        while point is not None:
            curve.add(point.lr, point.loss)
            progress.add(curves)
            point = next(points, None)
    curve.diverged = test.diverged
    return test.n_possible


def result_json(subject: Subject, curves: list[RangeCurve], suggestions: list[Suggested]) -> dict[str, Any]:
    """Return the result with the whole curve of each test."""
    return {
        "event": "result",
        "source": subject.name,
        "weights": subject.weights,
        "optimizer": subject.optimizer,
        "script_lr": _low_and_high(subject.script_lrs),
        "groups": [asdict(group) for group in subject.groups],
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


def _low_and_high(rates: Sequence[float]) -> dict[str, float] | None:
    return {"low": min(rates), "high": max(rates)} if rates else None


def _print(
    subject: Subject, curves: list[RangeCurve], suggestions: list[Suggested], save: Path | None, *, quiet: bool
) -> None:
    if quiet:
        write(rate_number(suggestions[0].lr) if suggestions else "")
        return
    table = Table.grid(padding=(0, 2, 0, 0))
    for cells in result_rows(curves, suggestions):
        table.add_row(*map(Text, cells))
    console().print(table)
    if are_equal(curves):
        _write_wrapped(SAME_CURVES)
    _write_wrapped(loss_line(curves[-1]))
    if groups := groups_line(subject.groups):
        _write_wrapped(groups)
    if not suggestions:
        _write_wrapped(NO_FALL)
        if are_noisy(curves):
            say(NOISE)
        return
    Console(stderr=True, highlight=False).print(limits(subject.optimizer, curves), markup=False)
    saved = f"saved {save}; train it with: tui-lab run {save}"
    write(subject.next_step(suggestions[0].lr) if save is None else saved)


def _write_wrapped(text: str) -> None:
    """Write a sentence, on a terminal in lines of whole words. A command stays in one line, to be copied."""
    out = console()
    out.print(Text(printable(text)), soft_wrap=not out.is_terminal)

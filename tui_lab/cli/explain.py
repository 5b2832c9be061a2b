"""`tui-lab explain`: print the rows of a step beside those of its neighbors, and rewind a spike."""

from dataclasses import asdict
from typing import Any

from rich.table import Table
from rich.text import Text

from tui_lab.cli.output import console, say, write, write_json
from tui_lab.cli.progress import preparing
from tui_lab.core.runs import folder as runs
from tui_lab.core.runs.explain import (
    Explanation,
    Ids,
    Outliers,
    StepRows,
    explain,
    find_outliers,
    largest,
    refuse_script,
    rewind_settings,
)
from tui_lab.core.runs.folder import Run
from tui_lab.core.runs.outlier_groups import OutlierGroup
from tui_lab.core.runs.spikes import DEVIATIONS, SpikeIndex
from tui_lab.data.tokenizers import Tokenizer, show
from tui_lab.util.errors import RunError
from tui_lab.util.exit_codes import DONE
from tui_lab.util.plural import plural

MOST_ROWS = 16
"""Rows of the step that are listed unless a number is given."""
MOST_ROWS_BESIDE = 3
"""Rows of the step before and after that are shown."""
SHOWN_HISTORY = 3
MOST_OUTLIERS = 10
"""The same for the texts of the whole run that stood out."""
SHOWN_STEPS = 3
"""Of one text."""


def explain_run(name: str, step: int | None, how: str | None, top: int | None, *, as_json: bool) -> int:
    """Explain a step or the largest spike, and rewind it if asked to; return the exit code.

    top: how many rows and texts are listed; 0: all; None: some.
    """
    run = runs.find(name)
    refuse_script(run)
    index = SpikeIndex(run)
    outliers = find_outliers(run, MOST_OUTLIERS if top is None else top or None) if step is None else None
    if step is None and (spike := largest(index.read())) is not None:
        step = spike.step
    tokenizer = run.tokenizer()
    if step is None:
        if how is not None:
            raise RunError.of("not_found", "the train loss has no spike; --step N names what to rewind", key=run.name)
        _print_without_spike(run, outliers, tokenizer, as_json=as_json)
        return DONE
    explanation = explain(run, step, index)
    # Whatever is wrong with the rewind is said before anything is printed.
    changes = None if how is None else rewind_settings(explanation, "skip" if how == "skip" else "lower_lr")
    if as_json:
        write_json(_to_json(run, explanation, tokenizer) | _outliers_json(outliers, tokenizer))
    else:
        _print(explanation, tokenizer, MOST_ROWS if top is None else top or len(explanation.at.rows))
        _print_outliers(outliers, tokenizer)
    return DONE if changes is None else _rewind(run, explanation, changes, as_json=as_json)


def _print_without_spike(run: Run, outliers: Outliers | None, tokenizer: Tokenizer, *, as_json: bool) -> None:
    if as_json:
        write_json({"run": run.name, "spike": None} | _outliers_json(outliers, tokenizer))
        return
    write(f"the train loss has no spike: no loss is {DEVIATIONS:g} standard deviations above those before it")
    if outliers is None or not outliers.groups:
        write("no row stood out either; --step N shows the rows of a step")
        return
    _print_outliers(outliers, tokenizer)
    write(f"all rows of a step: tui-lab explain {run.path} --step {outliers.groups[0][0].best.step}")


def _outliers_json(outliers: Outliers | None, tokenizer: Tokenizer) -> dict[str, Any]:
    """Return the outliers of the run; nothing where a step was named."""
    if outliers is None:
        return {}
    groups = [
        asdict(group.best) | {"text": text_of(tokenizer, x), "seen": [asdict(row) for row in group.rows]}
        for group, x in outliers.groups
    ]
    return {"outliers": groups, "n_outliers": outliers.n}


def _print_outliers(outliers: Outliers | None, tokenizer: Tokenizer) -> None:
    """Print the texts of the whole run whose loss was furthest above that of the median row before."""
    if outliers is None or not outliers.groups:
        return
    n_shown = len(outliers.groups)
    number = f"{n_shown} of {outliers.n:,} texts" if n_shown < outliers.n else "the texts"
    write(f"{number} of the run with rows whose own loss stood out, those furthest above the typical row first:")
    table = Table("step", "row", "example", "loss", "typical", "text", box=None, pad_edge=False)
    for group, x in outliers.groups:
        row = group.best
        text = Text(text_of(tokenizer, x), no_wrap=True, overflow="ellipsis")
        if len(group.rows) > 1:
            text.append(f"\n{_seen_text(group)}", "dim")
        place = f"{row.row + 1:,} of {row.n_rows:,}"
        table.add_row(f"{row.step:,}", place, f"{row.example:,}", f"{row.loss:.4g}", f"{row.typical:.4g}", text)
    console().print(table)
    if n_shown < outliers.n:
        write("--top 0 lists all")


def _seen_text(group: OutlierGroup) -> str:
    steps = [f"{step:,}" for step in group.steps]
    shown = ", ".join(steps[:SHOWN_STEPS]) + (", …" if len(steps) > SHOWN_STEPS else "")
    return f"seen in {len(group.rows):,} rows, {plural(len(steps), 'step')} {shown}"


def _rewind(run: Run, explanation: Explanation, changes: dict[str, Any], *, as_json: bool) -> int:
    from tui_lab.cli.run import train
    from tui_lab.core.runs.rewind import rewind

    step = explanation.checkpoint_step
    if not as_json:
        if step is None:
            say(f"no checkpoint before step {explanation.at.step:,} is left: training starts again from step 0")
        else:
            say(f"forking at the checkpoint of step {step:,}")
        for key, value in changes.items():
            say(f"{key} = {list(value) if isinstance(value, tuple) else value}")
    with preparing(silent=as_json) as report:
        opened = rewind(run, step, changes, report)
    return train(opened, [], json_lines=as_json, quiet=False)


def text_of(tokenizer: Tokenizer, x: Ids) -> str:
    """Return the tokens of a row, [T], on one line."""
    return "".join(show(tokenizer, int(token)) for token in x).replace("␣", " ")


def _print(explanation: Explanation, tokenizer: Tokenizer, most: int) -> None:
    at = explanation.at
    spike = explanation.spike
    expected = "" if spike is None else f", expected {spike.expected:.4g} ± {spike.deviation:.2g}"
    write(f"step {at.step:,}: loss {at.loss:.4g}{expected}")
    n = len(explanation.suspects)
    if n and explanation.loss_without is not None:
        rows = "1 row stands out: without it" if n == 1 else f"{n} rows stand out: without them"
        write(f"{rows} the loss is {explanation.loss_without:.4g}")
    else:
        write("no row stands out from those of the steps before")
    places = {row.row for row in explanation.suspects}
    _print_rows(at, tokenizer, most, places)
    for beside in (explanation.before, explanation.after):
        if beside is not None:
            write(f"step {beside.step:,}: loss {beside.loss:.4g}")
            _print_rows(beside, tokenizer, MOST_ROWS_BESIDE, set())
    if explanation.checkpoint_step is not None:
        write(f"newest checkpoint before it: step {explanation.checkpoint_step:,}")
    else:
        write("no checkpoint before it is left; --rewind starts again from step 0")


def _print_rows(step: StepRows, tokenizer: Tokenizer, most: int, suspects: set[int]) -> None:
    table = Table("", f"row of {len(step.rows):,}", "example", "loss", "before", "text", box=None, pad_edge=False)
    for row in step.rows[:most]:
        seen = row.history[-SHOWN_HISTORY:]
        before = ", ".join(f"{each.loss:.3g} at {each.step:,}" for each in seen) or "new"
        text = Text(text_of(tokenizer, row.x), no_wrap=True, overflow="ellipsis")
        mark = "▲" if row.row in suspects else ""
        table.add_row(mark, f"{row.row + 1:,}", f"{row.example:,}", f"{row.loss:.4g}", before, text)
    console().print(table)
    if len(step.rows) > most:
        write(f"and {len(step.rows) - most:,} rows with a lower loss")


def _to_json(run: Run, explanation: Explanation, tokenizer: Tokenizer) -> dict[str, Any]:
    def step(rows: StepRows | None) -> dict[str, Any] | None:
        return (
            None
            if rows is None
            else {
                "step": rows.step,
                "loss": rows.loss,
                "rows": [
                    {
                        "row": row.row,
                        "example": row.example,
                        "offset": row.offset,
                        "loss": row.loss,
                        "text": text_of(tokenizer, row.x),
                        "history": [asdict(seen) for seen in row.history],
                    }
                    for row in rows.rows
                ],
            }
        )

    return {
        "run": run.name,
        "spike": None if explanation.spike is None else asdict(explanation.spike),
        "at": step(explanation.at),
        "before": step(explanation.before),
        "after": step(explanation.after),
        "suspects": [row.example for row in explanation.suspects],
        "loss_without": explanation.loss_without,
        "checkpoint_step": explanation.checkpoint_step,
    }

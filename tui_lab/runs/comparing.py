"""`runs compare`: settings that differ, figures side by side, the same prompt to each, curves in one picture."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tui_lab.cli.output import stdout
from tui_lab.cli.show import write_json
from tui_lab.core.runs import folder as runs
from tui_lab.core.runs.catalog import RunRow, config_differences, row_of
from tui_lab.core.runs.folder import Run
from tui_lab.runs.listing import FIGURES, number, row_json, word
from tui_lab.util.errors import ConfigError
from tui_lab.util.escape import printable


@dataclass(frozen=True)
class Speech:
    """What to say to each run, and how each is to answer."""

    prompt: str
    max_new_tokens: int
    temperature: float
    seed: int


def compare_runs(names: Sequence[str], speech: Speech | None, curves: Path | None, *, as_json: bool) -> None:
    """Raises ConfigError or RunError before anything is printed."""
    found = named(names)
    if len(found) < 2:
        raise ConfigError([f"runs compare: two runs or more are allowed, here is {len(found)}"])
    rows = [row_of(run.path, name) for name, run in found.items()]
    different = config_differences(rows)
    said = {} if speech is None else {name: answer(run, speech) for name, run in found.items()}
    if curves is not None:
        from tui_lab.runs.exporting import save_curves

        save_curves(found, curves)
    if as_json:
        figures = [row_json(row) for row in rows]
        write_json({"runs": figures, "different": different} | ({} if speech is None else {"said": said}))
        return
    console = Console(file=stdout())
    _print(console, "what they came to", _table(rows, _figures(rows)))
    if different:
        stdout().write("\n")
        told = {key: [*map(_setting, values)] for key, values in different.items()}
        _print(console, "settings that differ", _table(rows, told))
    else:
        stdout().write("\nno setting differs\n")
    if speech is not None:
        stdout().write("\n")
        _print(console, speech.prompt, _table(rows, {"": [said[row.name] for row in rows]}, wrap=True))
    if curves is not None:
        stdout().write(f"\n{curves}\n")


def named(names: Sequence[str]) -> dict[str, Run]:
    """The runs by names that differ, each run once: its folder's own, after those of its parents where need be."""
    found = list(dict.fromkeys(runs.find(name).path.resolve() for name in names))
    for n in range(1, max((len(path.parts) for path in found), default=1)):
        short = ["/".join(path.parts[-n:]) for path in found]
        if len(set(short)) == len(found):
            break
    return {name: Run(path) for name, path in zip(short, found, strict=True)}


def answer(run: Run, speech: Speech) -> str:
    """What a run says after the prompt; where its tokenizer does not know the prompt, why it says nothing."""
    from tui_lab.core.inference.generate import generate
    from tui_lab.core.inference.load_model import load_model
    from tui_lab.core.inference.sampling import Sampling
    from tui_lab.util.errors import DataError

    sampling = Sampling(temperature=speech.temperature, seed=speech.seed)
    model, tokenizer = load_model(run)
    try:
        told = generate(model, tokenizer, speech.prompt, max_new_tokens=speech.max_new_tokens, sampling=sampling,
                        n_alternatives=0)  # fmt: skip
        return "".join(made.text for made in told)
    except DataError as error:
        return f"({error})"


def _figures(rows: Sequence[RunRow]) -> dict[str, list[str]]:
    told = [row_json(row) for row in rows]
    figures: dict[str, list[str]] = {"state": [row.state for row in rows]}
    for key, title in FIGURES:
        if any(one[key] is not None for one in told):
            figures[title] = [number(key, one[key]) for one in told]
    if any(row.tags for row in rows):
        figures["tags"] = [" ".join(row.tags) for row in rows]
    return figures


def _setting(value: Any) -> str:
    return "–" if value is None else word(value)


def _print(console: Console, title: str, table: Table) -> None:
    console.print(Text(printable(title), style="italic"))
    console.print(table)


def _table(rows: Sequence[RunRow], lines: dict[str, list[str]], *, wrap: bool = False) -> Table:
    """A column a run, a line a figure, setting or answer."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    if any(lines):
        table.add_column("")
    for row in rows:
        table.add_column(Text(printable(row.name)), justify="left" if wrap else "right", overflow="fold")
    for name, values in lines.items():
        cells = [*([name] if any(lines) else []), *values]
        table.add_row(*(Text(printable(cell)) for cell in cells))
    return table

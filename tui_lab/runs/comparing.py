"""Compare runs: settings that differ, figures side by side, the reply of each to one prompt."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from tui_lab.core.config.script import ScriptConfig, is_imported
from tui_lab.core.events import Changed
from tui_lab.core.runs import folder as runs
from tui_lab.core.runs.catalog import RunRow, config_differences, row_of
from tui_lab.core.runs.code_diff import CodeDiff
from tui_lab.core.runs.compare_groups import GroupComparison, compare_groups
from tui_lab.core.runs.folder import Run
from tui_lab.core.runs.start_difference import code_difference
from tui_lab.core.runs.sweep.seeds import done_points, sweep_folder
from tui_lab.runs.answers import new_tokens, verdict
from tui_lab.runs.code_text import code_diff_text
from tui_lab.runs.columns import Column, figures_of, settings_of
from tui_lab.runs.figures import row_json
from tui_lab.runs.live_changes import changes_of, settings_diff
from tui_lab.runs.verdict_text import verdict_lines
from tui_lab.util.errors import ConfigError, DataError
from tui_lab.util.escape import printable

TOKENS_OF_TEXT = 100
GAP = 2
"""Columns between those of a table."""
OWN_SETTINGS = "settings."
"""What the names of a script's own settings begin with."""


@dataclass(frozen=True)
class Prompts:
    """Prompts for every run, and the sampling settings of the replies.

    max_new_tokens: None for the length of a task's answer, or `TOKENS_OF_TEXT`.
    """

    texts: Sequence[str]
    max_new_tokens: int | None
    temperature: float
    seed: int


@dataclass(frozen=True)
class Section:
    """A part of a comparison: a text, or a table with a line for each figure, setting or reply.

    columns: the titles of the columns: runs, or sweeps over seeds. line_title: what each line is. is_prose: whether the
    cells are texts, not numbers. code: whose files differ.
    """

    title: str
    text: str = ""
    lines: Mapping[str, Sequence[str]] | None = None
    columns: Sequence[str] = ()
    line_title: str = "figure"
    is_prose: bool = False
    code: CodeDiff | None = None


@dataclass(frozen=True)
class Comparison:
    """Runs by name. different: for each setting that differs, its value in each run at the start; replies: by name, one
    to each prompt.

    columns: all rows, in their order, each alone or with the other trials of a sweep over seeds. changes: the live
    changes of each run, by name. verdicts: of each group of seeds against the first. code: of each other script against
    the first run, if that is of a script.
    """

    runs: Mapping[str, Run]
    columns: Sequence[Column]
    different: Mapping[str, Sequence[Any]]
    changes: Mapping[str, Sequence[Changed]]
    prompts: Prompts | None
    replies: Mapping[str, Sequence[str]]
    verdicts: Sequence[GroupComparison] = ()
    code: Sequence[CodeDiff] = ()

    @property
    def rows(self) -> list[RunRow]:
        return [row for column in self.columns for row in column.rows]

    def to_json(self) -> dict[str, Any]:
        changes = {name: [change.to_json() for change in of_run] for name, of_run in self.changes.items()}
        values = {"runs": [row_json(row) for row in self.rows], "different": self.different, "changes": changes}
        values["comparisons"] = [verdict.to_json() for verdict in self.verdicts]
        values["code"] = [diff.to_json() for diff in self.code]
        return values if self.prompts is None else values | {"prompts": self.prompts.texts, "replies": self.replies}

    def verdict_text(self) -> str:
        """Return the verdicts of the groups of seeds, and where their curves part."""
        if not self.verdicts:
            return "no verdict: the runs differ only in their seed, or cannot be read"
        names = {row.name: column.name for column in self.columns for row in column.rows}
        return "\n".join(line for comparison in self.verdicts for line in verdict_lines(comparison, names))

    def sections(self) -> list[Section]:
        """Return the results, the settings and the code that differ, the verdict, and the replies."""
        titles = [column.title for column in self.columns]
        sections = [Section("Results", lines=figures_of(self.columns), columns=titles)]
        diff = settings_diff(self.rows, [self.changes[row.name] for row in self.rows])
        texts = {key: settings_of(self.columns, of_rows) for key, of_rows in diff.different.items()}
        settings = _without_repeats({key: texts for key, texts in texts.items() if texts is not None})
        title = self._settings_title(diff.changes_text, has_different=any(key in settings for key in self.different))
        sections.append(Section(title, lines=settings or None, columns=titles, line_title="setting"))
        if len(self.code) > 1 and all(code.is_same for code in self.code):
            sections.append(Section("The code of all runs is the same"))
        else:
            sections += [Section(self.code_title(code), code=code) for code in self.code]
        sections.append(Section("Verdict", self.verdict_text()))
        for i, prompt in enumerate(self.prompts.texts if self.prompts is not None else ()):
            replies = {"": [self._shown_reply(row, prompt, self.replies[row.name][i]) for row in self.rows]}
            names = [row.name for row in self.rows]
            sections.append(Section(f"Replies to {prompt!r}", lines=replies, columns=names, is_prose=True))
        return sections

    def tables(self, width: int) -> list[tuple[str, list[Table]]]:
        """Return the title of each section with its text, and its tables. width: in which they should fit."""
        return [
            (f"{section.title}\n{section.text}" if section.text else section.title, list(_tables(section, width)))
            for section in self.sections()
        ]

    def _settings_title(self, changes_text: str, *, has_different: bool) -> str:
        """Return whether the settings differ, how many live changes there are, and whose settings are not known."""
        unknown = [row.name for row in self.rows if row.kind == "imported"]
        parts = []
        if has_different:
            parts.append("settings that differ")
        elif len(self.rows) - len(unknown) > 1:
            parts.append(
                f"all {'other ' if unknown else ''}settings are the same{' at the start' if changes_text else ''}"
            )
        parts += [changes_text] if changes_text else []
        parts += [f"the settings of {' and '.join(unknown)} are not known"] if unknown else []
        title = "; ".join(parts)
        return title[:1].upper() + title[1:]

    def code_title(self, diff: CodeDiff) -> str:
        """Return the difference in one line, with the name of the other run if there are several."""
        text = code_diff_text(diff)
        return f"{diff.runs[1]}: {text}" if len(self.code) > 1 else text[:1].upper() + text[1:]

    def _shown_reply(self, row: RunRow, prompt: str, text: str) -> str:
        """Return a run's reply, and whether it is the right answer."""
        return f"{text} {verdict(row.config, prompt, text)}".rstrip()


def compare(names: Sequence[str], prompts: Prompts | None) -> Comparison:
    """Compare two or more runs. A sweep stands for its points, each a column; one over seeds alone, for its trials.

    Raises ConfigError for fewer runs, RunError for one that cannot be read or a sweep with too many points.
    """
    columns = _columns(names)
    rows = [row for column in columns for row in column.rows]
    named = {row.name: Run(row.path) for row in rows}
    if len(named) < 2:
        raise ConfigError.of("invalid", "needs two or more runs", key="runs compare", value=len(named))
    if prompts is not None and all(row.kind != "trainer" for row in rows):
        named[rows[0].name].refuse_script("compare them without --prompt")
    replies = {} if prompts is None else {name: replies_of(run, prompts) for name, run in named.items()}
    changes = {name: changes_of(run) for name, run in named.items()}
    differences = [code_difference(rows[0], row) for row in rows[1:]]
    code = [diff for diff in differences if diff is not None]
    return Comparison(named, columns, config_differences(rows), changes, prompts, replies, compare_groups(rows), code)


@dataclass(frozen=True)
class _Part:
    """What becomes a column. path: of the run or the sweep; label: of a point of the sweep, else empty."""

    path: Path
    runs: tuple[Path, ...]
    label: str = ""


def _columns(names: Sequence[str]) -> list[Column]:
    """Return a column for each named run and each point of a sweep; for each trial of a sweep over seeds alone.

    A run that is named twice has one column. Raises RunError as `compare` does.
    """
    names = list(dict.fromkeys(names))
    parts: list[_Part] = []
    seen: set[Path] = set()
    for part in (part for name in names for part in _parts(name, is_alone=len(names) == 1)):
        paths = tuple(path for path in part.runs if path not in seen)
        seen.update(paths)
        if paths:
            parts.append(replace(part, runs=paths))
    short_names = _unique_names(list(dict.fromkeys(part.path for part in parts)))
    is_one_sweep = len(short_names) == 1
    row_names = _unique_names([path for part in parts for path in part.runs])
    columns = []
    for part in parts:
        of_sweep = [] if part.label and is_one_sweep else [short_names[part.path]]
        name = "/".join([*of_sweep, *([part.label] if part.label else [])])
        columns.append(Column(name, tuple(row_of(path, row_names[path]) for path in part.runs)))
    return columns


def _parts(name: str, *, is_alone: bool) -> list[_Part]:
    """Return the columns of a name. is_alone: whether it is the only one."""
    sweep = sweep_folder(name)
    if sweep is None:
        path = runs.find(name).path.resolve()
        return [_Part(path, (path,))]
    points = [(point.label, tuple(run.path.resolve() for run in point.runs)) for point in done_points(sweep)]
    if is_alone and len(points) == 1:
        return [_Part(path, (path,)) for path in points[0][1]]
    return [_Part(sweep.resolve(), paths, label) for label, paths in points]


def named_runs(names: Sequence[str]) -> dict[str, Run]:
    """Return each run once, under its folder's name; equal names get as many parent folders as make them unique."""
    paths = list(dict.fromkeys(runs.find(name).path.resolve() for name in names))
    return {name: Run(path) for path, name in _unique_names(paths).items()}


def _unique_names(paths: Sequence[Path]) -> dict[Path, str]:
    """Return the last parts of each of these paths, as few as make all names unique."""
    short_names: list[str] = []
    for n in range(1, max((len(path.parts) for path in paths), default=1)):
        short_names = ["/".join(path.parts[-n:]) for path in paths]
        if len(set(short_names)) == len(paths):
            break
    return dict(zip(paths, short_names, strict=True))


def replies_of(run: Run, prompts: Prompts) -> list[str]:
    """Generate a run's reply to each prompt; the reason in parentheses where its tokenizer cannot encode the prompt.

    The run of a script has no replies either, since only the script can build its model; an imported run has no model.
    """
    from tui_lab.core.inference.generate import generate_batch
    from tui_lab.core.inference.load_model import load_model
    from tui_lab.core.inference.sampling import Sampling

    config = run.config()
    if isinstance(config, ScriptConfig):
        reason = "(imported, without a model)" if is_imported(config) else "(the model of a script cannot be loaded)"
        return [reason] * len(prompts.texts)
    sampling = Sampling(temperature=prompts.temperature, seed=prompts.seed)
    model, tokenizer = load_model(run)
    errors: dict[str, str] = {}
    for text in prompts.texts:
        try:
            tokenizer.encode(text)
        except DataError as error:
            errors[text] = f"({error})"
    accepted = [text for text in prompts.texts if text not in errors]
    limits = [prompts.max_new_tokens or new_tokens(config, text, TOKENS_OF_TEXT) for text in accepted]
    rows = generate_batch(model, tokenizer, accepted, max_new_tokens=limits, sampling=sampling)
    texts = ["".join(token.text for token in tokens) for tokens in rows]
    replies = errors | dict(zip(accepted, texts, strict=True))
    return [replies[text] for text in prompts.texts]


def _without_repeats(settings: Mapping[str, Sequence[str]]) -> dict[str, Sequence[str]]:
    """Return settings without those that are only what a script's own setting of the same values has set."""
    own = [values for key, values in settings.items() if key.startswith(OWN_SETTINGS)]
    return {key: values for key, values in settings.items() if key.startswith(OWN_SETTINGS) or values not in own}


def _tables(section: Section, width: int) -> Iterator[Table]:
    """Yield the table of a section, or several with a part of the runs each, so that they fit into `width`."""
    lines = section.lines or {}
    if section.is_prose:
        yield _table(section.columns, lines, wrap=True)
        return
    widths = [max(map(len, column)) + GAP for column in zip(section.columns, *lines.values(), strict=True)]
    room = width - max(map(len, lines), default=0)
    first = 0
    while first < len(widths):
        end = first + 1
        while end < len(widths) and sum(widths[first : end + 1]) <= room:
            end += 1
        yield _table(section.columns[first:end], {name: values[first:end] for name, values in lines.items()})
        first = end


def _table(titles: Sequence[str], lines: Mapping[str, Sequence[str]], *, wrap: bool = False) -> Table:
    """Return a table with these columns and a line per figure, setting or reply."""
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0))
    if any(lines):
        table.add_column("", no_wrap=True)
    for title in titles:
        table.add_column(Text(printable(title)), justify="left" if wrap else "right", overflow="fold")
    for name, values in lines.items():
        cells = [*([name] if any(lines) else []), *values]
        table.add_row(*(Text(printable(cell)) for cell in cells))
    return table

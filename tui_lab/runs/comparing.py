"""Compare runs: settings that differ, figures side by side, the reply of each to one prompt."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
from tui_lab.core.runs.sweep.seeds import runs_of
from tui_lab.runs.answers import new_tokens, verdict
from tui_lab.runs.code_text import code_diff_text
from tui_lab.runs.figures import FIGURES, figure_text, row_json
from tui_lab.runs.live_changes import changes_of, settings_diff
from tui_lab.runs.verdict_text import verdict_lines
from tui_lab.util.errors import ConfigError, DataError
from tui_lab.util.escape import printable

TOKENS_OF_TEXT = 100


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
    """A part of a comparison: a text, or a table with a line for each figure, setting or reply, and a column per run.

    line_title: what each line is. is_prose: whether the cells are texts, not numbers. code: whose files differ.
    """

    title: str
    text: str = ""
    lines: Mapping[str, Sequence[str]] | None = None
    line_title: str = "figure"
    is_prose: bool = False
    code: CodeDiff | None = None


@dataclass(frozen=True)
class Comparison:
    """Runs by name. different: for each setting that differs, its value in each run at the start; replies: by name, one
    to each prompt.

    changes: the live changes of each run, by name. verdicts: of each group of seeds against the first. code: of each
    other script against the first run, if that is of a script.
    """

    runs: Mapping[str, Run]
    rows: Sequence[RunRow]
    different: Mapping[str, Sequence[Any]]
    changes: Mapping[str, Sequence[Changed]]
    prompts: Prompts | None
    replies: Mapping[str, Sequence[str]]
    verdicts: Sequence[GroupComparison] = ()
    code: Sequence[CodeDiff] = ()

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
        return "\n".join(line for comparison in self.verdicts for line in verdict_lines(comparison))

    def sections(self) -> list[Section]:
        """Return the results, the settings and the code that differ, the verdict, and the replies."""
        sections = [Section("Results", lines=_figures(self.rows))]
        diff = settings_diff(self.rows, [self.changes[row.name] for row in self.rows])
        settings = diff.different or None
        sections.append(Section(self._settings_title(diff.changes_text), lines=settings, line_title="setting"))
        sections += [Section(self.code_title(code), code=code) for code in self.code]
        sections.append(Section("Verdict", self.verdict_text()))
        for i, prompt in enumerate(self.prompts.texts if self.prompts is not None else ()):
            replies = {"": [self._shown_reply(row, prompt, self.replies[row.name][i]) for row in self.rows]}
            sections.append(Section(f"Replies to {prompt!r}", lines=replies, is_prose=True))
        return sections

    def tables(self) -> list[tuple[str, Table | None]]:
        """Return the title of each section with its text and table."""
        return [
            (
                f"{section.title}\n{section.text}" if section.text else section.title,
                None if section.lines is None else _table(self.rows, section.lines, wrap=section.is_prose),
            )
            for section in self.sections()
        ]

    def _settings_title(self, changes_text: str) -> str:
        """Return whether the settings differ, how many live changes there are, and whose settings are not known."""
        unknown = [row.name for row in self.rows if row.kind == "imported"]
        parts = []
        if self.different:
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
    """Compare two or more runs; a sweep over seeds stands for its trials.

    Raises ConfigError for fewer runs, RunError for one that cannot be read or a sweep over another setting.
    """
    named = named_runs([str(run.path) for name in names for run in runs_of(name)])
    if len(named) < 2:
        raise ConfigError.of("invalid", "needs two or more runs", key="runs compare", value=len(named))
    rows = [row_of(run.path, name) for name, run in named.items()]
    if prompts is not None and all(row.kind != "trainer" for row in rows):
        named[rows[0].name].refuse_script("compare them without --prompt")
    replies = {} if prompts is None else {name: replies_of(run, prompts) for name, run in named.items()}
    changes = {name: changes_of(run) for name, run in named.items()}
    differences = [code_difference(rows[0], row) for row in rows[1:]]
    code = [diff for diff in differences if diff is not None]
    return Comparison(named, rows, config_differences(rows), changes, prompts, replies, compare_groups(rows), code)


def named_runs(names: Sequence[str]) -> dict[str, Run]:
    """Return each run once, under its folder's name; equal names get as many parent folders as make them unique."""
    paths = list(dict.fromkeys(runs.find(name).path.resolve() for name in names))
    for n in range(1, max((len(path.parts) for path in paths), default=1)):
        short_names = ["/".join(path.parts[-n:]) for path in paths]
        if len(set(short_names)) == len(paths):
            break
    return {name: Run(path) for name, path in zip(short_names, paths, strict=True)}


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


def _figures(rows: Sequence[RunRow]) -> dict[str, list[str]]:
    values = [row_json(row) for row in rows]
    figures: dict[str, list[str]] = {"state": [row.state for row in rows]}
    for key, title in FIGURES:
        if any(one[key] is not None for one in values):
            figures[title] = [figure_text(key, one[key]) for one in values]
    if any(row.tags for row in rows):
        figures["tags"] = [" ".join(row.tags) for row in rows]
    return figures


def _table(rows: Sequence[RunRow], lines: Mapping[str, Sequence[str]], *, wrap: bool = False) -> Table:
    """Return a table with a column per run and a line per figure, setting or reply."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    if any(lines):
        table.add_column("", no_wrap=True)
    for row in rows:
        table.add_column(Text(printable(row.name)), justify="left" if wrap else "right", overflow="fold")
    for name, values in lines.items():
        cells = [*([name] if any(lines) else []), *values]
        table.add_row(*(Text(printable(cell)) for cell in cells))
    return table

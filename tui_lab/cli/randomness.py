"""`tui-lab randomness`: the sources of randomness of a config, and whether the runs of a script are the same."""

import sys
from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from tui_lab.cli.check_progress import CheckProgress
from tui_lab.cli.output import console, say, stdout, write_json
from tui_lab.cli.script_argument import script_suggested
from tui_lab.cli.show import open_data
from tui_lab.cli.signals import interrupt_on_signals
from tui_lab.core.config import settings
from tui_lab.core.watch.process.recorded_script import ScriptToRun
from tui_lab.core.watch.randomness.traced_runs import ScriptTracer
from tui_lab.core.watch.randomness.verdict import FIRST_RUNS, WITH_OTHER_SEEDS, RandomnessVerdict, judge
from tui_lab.text.randomness_text import sources_table, verdict_lines
from tui_lab.util.escape import printable
from tui_lab.util.exit_codes import DONE, NOT_JUDGED, NOT_MET


def show_sources(source: str, overrides: Sequence[str], step: int, *, as_json: bool, pin: bool) -> None:
    """Print the sources of randomness; with `pin`, the config that pins them all, as TOML."""
    from tui_lab.core.training.reproducibility import ledger, pinned

    with script_suggested(source):
        config, task = open_data(source, overrides)
    sources = ledger(config, task, step - 1)
    if pin:
        stdout().write(settings.to_toml(pinned(config, sources)))
        return
    if as_json:
        write_json({"step": step, "sources": [one.to_json() for one in sources]})
        return
    title = f"Randomness at step {step:,}"
    table = Table("source", "draws", "seed", "state", "fingerprint", title=title, title_justify="left")
    for one in sources:
        state = Text("pinned", "green") if one.pinned else Text("free", "bold yellow")
        table.add_row(one.name, one.draws, one.seed, state, one.fingerprint or "")
    console().print(table)


def examine_script(script: ScriptToRun, n_steps: int, *, as_json: bool) -> int:
    """Compare runs of a script and print the result; return the exit code. Raises ConfigError if it makes no step."""
    name = script.target.script
    if not as_json:
        say(f"randomness: running {name} twice for {n_steps:,} updates; it changes no existing file")
    with interrupt_on_signals(), CheckProgress(is_shown=not as_json) as progress:
        verdict = judge(ScriptTracer(script, n_steps), RunNotes(progress, is_shown=not as_json).begin)
    if as_json:
        write_json({"source": name, **verdict.to_json()})
    else:
        _print(name, verdict)
    if verdict.is_reproducible is None:
        return NOT_JUDGED
    return DONE if verdict.is_reproducible else NOT_MET


class RunNotes:
    """Says on stderr which run begins. is_shown: whether it may."""

    def __init__(self, progress: CheckProgress, *, is_shown: bool) -> None:
        self._progress = progress
        self._is_shown = is_shown
        self._reason = ""
        """Why the latest run was made."""

    def begin(self, number: int, purpose: str) -> None:
        """A run begins. purpose: what it is for."""
        if self._is_shown and number > FIRST_RUNS:
            reason = _SAME_BY_CHANCE if purpose == WITH_OTHER_SEEDS else _SEARCH
            if reason != self._reason:
                say(f"randomness: {reason}")
            self._reason = reason
            if not sys.stderr.isatty():
                say(f"randomness: run {number}, {purpose}")
        self._progress.show(f"run {number}, {purpose}")


_SAME_BY_CHANCE = "the runs are the same; up to two further ones test what has no constant seed"
_SEARCH = "the runs differ; looking for the causes, in four to ten further runs"


def _print(name: str, verdict: RandomnessVerdict) -> None:
    for line in verdict_lines(name, verdict):
        console().print(Text(printable(line)))
    console().print(sources_table(verdict))

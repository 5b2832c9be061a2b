"""`tui-lab randomness`: the sources of randomness of a config, and whether the runs of a script are the same."""

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from tui_lab.cli.check_progress import CheckProgress
from tui_lab.cli.output import console, say, stdout, write, write_json
from tui_lab.cli.script_argument import script_suggested
from tui_lab.cli.show import open_data
from tui_lab.cli.signals import interrupt_on_signals
from tui_lab.core.config import settings
from tui_lab.core.watch.process.recorded_script import ScriptToRun
from tui_lab.core.watch.randomness.traced_runs import ScriptTracer
from tui_lab.core.watch.randomness.verdict import RandomnessVerdict, judge
from tui_lab.text.randomness_text import sources_table, verdict_lines
from tui_lab.util.exit_codes import DONE, NOT_JUDGED, NOT_MET

FIRST_OF_SEARCH = 3
"""The number of the first run after the two that are compared."""


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

        def begin_run(number: int, purpose: str) -> None:
            if number == FIRST_OF_SEARCH and not as_json:
                say("randomness: the runs differ; looking for the causes, in four to ten further runs")
            progress.show(f"run {number}, {purpose}")

        verdict = judge(ScriptTracer(script, n_steps), begin_run)
    if as_json:
        write_json({"source": name, **verdict.to_json()})
    else:
        _print(name, verdict)
    if verdict.is_reproducible is None:
        return NOT_JUDGED
    return DONE if verdict.is_reproducible else NOT_MET


def _print(name: str, verdict: RandomnessVerdict) -> None:
    for line in verdict_lines(name, verdict):
        write(line)
    console().print(sources_table(verdict))

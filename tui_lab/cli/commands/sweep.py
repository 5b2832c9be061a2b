"""`tui-lab sweep`."""

import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tui_lab.cli.options import (
    Json,
    Quiet,
    ScriptArguments,
    ScriptModule,
    Sets,
    SweepEngine,
    complete_any,
    overrides_of,
    require_source_or_resume,
    trust_code,
)
from tui_lab.cli.output import user_prints_to_stderr
from tui_lab.util.errors import ConfigError
from tui_lab.util.extras import require

if TYPE_CHECKING:
    from tui_lab.cli.sweep import Display, Jobs
    from tui_lab.core.runs.sweep.folder import Plan
    from tui_lab.core.runs.sweep.plan import Engine
    from tui_lab.core.watch.process.script_process import Target

commands = typer.Typer()


Over = Annotated[
    list[str] | None,
    typer.Option(metavar="KEY=V1,V2,…", help="Values to try, or with --random a range: KEY=LOW..HIGH[:log]."),
]
JobsOption = Annotated[
    str | None,
    typer.Option(
        metavar="N|auto",
        help="Trials at once; by default as many as give the most trials per minute, and 1 for scripts.",
    ),
]
Swept = Annotated[
    str | None,
    typer.Argument(
        metavar="PRESET|CONFIG|SCRIPT.py", help="What to train; a script runs unchanged.", autocompletion=complete_any
    ),
]
SweepSteps = Annotated[int | None, typer.Option(min=1, help="Steps of each trial, as --set train.steps=N.")]
RankedBy = Annotated[
    str | None, typer.Option(help="Rank by this, as best_val_loss; by default the validation loss, if there is one.")
]
Prune = Annotated[bool, typer.Option("--prune", metavar="", help="Stop trials that are worse than the median so far.")]


@commands.command("sweep")
@user_prints_to_stderr()
def sweep(
    source: Swept = None,
    arguments: ScriptArguments = None,
    module: ScriptModule = None,
    over: Over = None,
    sets: Sets = None,
    steps: SweepSteps = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="Repeat every point with N seeds.")] = None,
    random: Annotated[int | None, typer.Option(min=1, help="Draw N points instead of trying all.")] = None,
    random_seed: Annotated[int | None, typer.Option(min=0, help="Seed for drawing points.")] = None,
    metric: RankedBy = None,
    prune: Prune = False,
    jobs: JobsOption = None,
    engine: Annotated[SweepEngine | None, typer.Option(help="Processes on this machine, or a Ray cluster.")] = None,
    out: Annotated[Path | None, typer.Option(help="The sweep's folder; if it holds the same sweep, join it.")] = None,
    resume: Annotated[str | None, typer.Option(metavar="SWEEP", help="Resume a sweep, or join it.")] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train a config or script many times with different values or seeds. Stop, resume, or join from a second terminal.

    For a SCRIPT.py, KEY is an option (--lr), a value that it or a module of yours assigns (learning_rate,
    config.lr), or a name for {KEY} in the script's arguments after `--`.
    """
    require_source_or_resume("sweep", source or module, resume, "SWEEP")
    options = _given(seeds=seeds, random=random, random_seed=random_seed, metric=metric, jobs=jobs, prune=prune or None)
    require("optuna", extra="sweep", feature="tui-lab sweep")
    from tui_lab.cli.script_argument import script_of
    from tui_lab.cli.sweep import Display, start_sweep

    display = Display(json, quiet)
    if resume is not None:
        is_changed = bool(over or sets or out or steps or options.keys() - {"jobs"})
        raise typer.Exit(_resume(resume, jobs, engine, display, is_changed=is_changed))
    if (target := script_of("sweep", source, arguments or [], module)) is not None:
        _refuse_for_scripts(engine)
        planned = _script_plan(target, over or [], sets or [], steps, options)
    else:
        planned = _config_plan(source or "", over or [], sets or [], steps, options, engine)
    raise typer.Exit(start_sweep(planned, out, _jobs(jobs), display))


def _resume(name: str, jobs: str | None, engine: SweepEngine | None, display: "Display", *, is_changed: bool) -> int:
    """Train what is left of a sweep, and return the exit code. Raises ConfigError if its trials are to be changed."""
    from tui_lab.cli.sweep import resume_sweep
    from tui_lab.core.runs.sweep import folder as sweeps

    if is_changed:
        message = "a resumed sweep keeps its trials; only --jobs and --engine are allowed"
        raise ConfigError.of("conflict", message, key="--resume")
    return resume_sweep(sweeps.find_sweep(name), engine, _jobs(jobs), display)


def _jobs(text: str | None) -> "Jobs":
    """Return the trials at once as they were given. Raises ConfigError."""
    from tui_lab.core.runs.sweep.plan import AUTO, parse_jobs

    return None if text is None else parse_jobs(text) or AUTO


def _given(**options: Any) -> dict[str, Any]:
    """Return the options that were given."""
    return {key: value for key, value in options.items() if value is not None}


def _command() -> str:
    """Return this command line."""
    return shlex.join(["tui-lab", *sys.argv[1:]])


def _config_plan(
    source: str,
    over: list[str],
    sets: list[str],
    steps: int | None,
    options: dict[str, Any],
    engine: SweepEngine | None,
) -> "Plan":
    """Return the plan of a sweep over a config. Raises ConfigError."""
    from tui_lab.core.runs.sweep.plan import plan

    _trust_values(over, sets)
    kind: Engine = "ray" if engine == SweepEngine.ray else "local"
    return plan(source, overrides_of(sets, steps), over, options, engine=kind, command=_command())


def _refuse_for_scripts(engine: SweepEngine | None) -> None:
    if engine == SweepEngine.ray:
        raise ConfigError.of("conflict", "the trials of a script run on this machine", key="--engine", value="ray")


def _script_plan(
    target: "Target", over: list[str], sets: list[str], steps: int | None, options: dict[str, Any]
) -> "Plan":
    """Return the plan of a sweep over a script. Raises ConfigError."""
    from tui_lab.core.runs.sweep.plan import parse_jobs
    from tui_lab.core.runs.sweep.script_plan import script_plan
    from tui_lab.core.runs.sweep.script_trials import ScriptTrials

    script = ScriptTrials(
        target.script,
        target.arguments,
        target.is_module,
        folder=str(Path.cwd()),
        python_path=os.environ.get("PYTHONPATH"),
        steps=steps or 0,
    )
    jobs = parse_jobs(options.pop("jobs", "1"))
    return script_plan(script, over, options, jobs, sets=sets, command=_command())


def _trust_values(over: list[str], sets: list[str]) -> None:
    """Trust the Python files that --over and --set name as `model.source`."""
    from tui_lab.core.runs.sweep.search_space import split

    axes = (axis.partition("=") for axis in over)
    trust_code([*sets, *(f"{key}={value}" for key, _, values in axes for value in split(values))])

"""`tui-lab sweep`."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tui_lab.cli.options import (
    Json,
    OptionalSource,
    Quiet,
    Sets,
    Steps,
    SweepEngine,
    overrides_of,
    require_source_or_resume,
    trust_code,
)
from tui_lab.cli.output import user_prints_to_stderr
from tui_lab.util.errors import ConfigError
from tui_lab.util.extras import require

if TYPE_CHECKING:
    from tui_lab.core.runs.sweep.plan import Engine

commands = typer.Typer()


Over = Annotated[
    list[str] | None,
    typer.Option(metavar="KEY=V1,V2,…", help="Values to try, or with --random a range: KEY=LOW..HIGH[:log]."),
]
Jobs = Annotated[
    str | None, typer.Option(metavar="N|auto", help="Trials at once; auto, the default: most trials per minute.")
]
Prune = Annotated[bool, typer.Option("--prune", metavar="", help="Stop trials that are worse than the median so far.")]


@commands.command("sweep")
@user_prints_to_stderr()
def sweep(
    source: OptionalSource = None,
    over: Over = None,
    sets: Sets = None,
    steps: Steps = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="Repeat every point with N seeds.")] = None,
    random: Annotated[int | None, typer.Option(min=1, help="Draw N points instead of trying all.")] = None,
    random_seed: Annotated[int | None, typer.Option(min=0, help="Seed for drawing points.")] = None,
    metric: Annotated[str | None, typer.Option(help="Rank by this; by default the loss the config optimizes.")] = None,
    prune: Prune = False,
    jobs: Jobs = None,
    engine: Annotated[SweepEngine | None, typer.Option(help="Processes on this machine, or a Ray cluster.")] = None,
    out: Annotated[Path | None, typer.Option(help="The sweep's folder; if it holds the same sweep, join it.")] = None,
    resume: Annotated[str | None, typer.Option(metavar="SWEEP", help="Resume a sweep, or join it.")] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train a config many times with different values or seeds. Stop, resume, or join from a second terminal."""
    require_source_or_resume("sweep", source, resume, "SWEEP")
    given = {"seeds": seeds, "random": random, "random_seed": random_seed, "metric": metric, "jobs": jobs}
    options = {key: value for key, value in given.items() if value is not None} | ({"prune": True} if prune else {})
    if resume is not None and (over or sets or out or steps or options.keys() - {"jobs"}):
        raise ConfigError.of(
            "conflict", "a resumed sweep keeps its trials; only --jobs and --engine are allowed", key="--resume"
        )
    require("optuna", extra="sweep", feature="tui-lab sweep")
    from tui_lab.cli.sweep import Display, resume_sweep, start_sweep
    from tui_lab.core.runs.sweep import folder as sweeps
    from tui_lab.core.runs.sweep.plan import AUTO, parse_jobs, plan

    given_jobs = None if jobs is None else parse_jobs(jobs) or AUTO
    display = Display(json, quiet)
    if resume is not None:
        raise typer.Exit(resume_sweep(sweeps.find_sweep(resume), engine, given_jobs, display))
    _trust_values(over or [], sets or [])
    kind: Engine = "ray" if engine == SweepEngine.ray else "local"
    command = shlex.join(["tui-lab", *sys.argv[1:]])
    planned = plan(source or "", overrides_of(sets, steps), over or [], options, engine=kind, command=command)
    raise typer.Exit(start_sweep(planned, out, given_jobs, display))


def _trust_values(over: list[str], sets: list[str]) -> None:
    """Trust the Python files that --over and --set name as `model.source`."""
    from tui_lab.core.runs.sweep.search_space import split

    axes = (axis.partition("=") for axis in over)
    trust_code([*sets, *(f"{key}={value}" for key, _, values in axes for value in split(values))])

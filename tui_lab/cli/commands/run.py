"""`tui-lab run`."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tui_lab.cli.options import (
    AllowCode,
    Json,
    Junit,
    OptionalSource,
    Quiet,
    Sets,
    Steps,
    complete_requirement,
    complete_run,
    overrides_of,
    require_source_or_resume,
    trust_code,
)
from tui_lab.cli.output import user_prints_to_stderr
from tui_lab.util.errors import ConfigError

if TYPE_CHECKING:
    from tui_lab.core.runs.open_run import OpenRun
    from tui_lab.core.runs.summary import Requirement
    from tui_lab.core.training.distributed import ProcessGroup

commands = typer.Typer()


Requirements = Annotated[
    list[str] | None,
    typer.Option(
        "--require",
        metavar="METRIC<=X",
        help="Exit 1 unless the summary meets this; <, >= and > are allowed too, and baseline+X with --baseline.",
        autocompletion=complete_requirement,
    ),
]
Baseline = Annotated[
    str | None,
    typer.Option(
        metavar="RUN", help="The run to require a result of: val_loss<=baseline+0.02.", autocompletion=complete_run
    ),
]
Resume = Annotated[
    str | None,
    typer.Option(metavar="RUN", help="Resume a run exactly where it stopped.", autocompletion=complete_run),
]
Detach = Annotated[
    bool,
    typer.Option("--detach", metavar="", help="Train in the background; follow and steer it with: tui-lab app RUN."),
]


@commands.command("run")
@user_prints_to_stderr()
def run(
    source: OptionalSource = None,
    sets: Sets = None,
    steps: Steps = None,
    out: Annotated[Path | None, typer.Option(help="The run's folder; by default a new folder in runs/.")] = None,
    require: Requirements = None,
    baseline: Baseline = None,
    resume: Resume = None,
    allow_code: AllowCode = False,
    junit: Junit = None,
    json: Json = False,
    quiet: Quiet = False,
    detach: Detach = False,
) -> None:
    """Train without the app: a progress bar on a terminal, plain lines elsewhere, or JSON."""
    require_source_or_resume("run", source, resume, "RUN")
    if resume is not None and (sets or out):
        raise ConfigError.of("conflict", "a resumed run keeps its settings; only --steps is allowed", key="--resume")
    from tui_lab.cli import run as implementation
    from tui_lab.core.runs import folder as runs
    from tui_lab.core.training import distributed

    requirements = _requirements(require or [], baseline, source, resume, overrides_of(sets, steps))
    trust_code(sets, allow_code, source=source, run=resume)
    if resume is not None:
        runs.find(resume).refuse_script()  # Before a child process or a JUnit file.
    if detach:
        raise typer.Exit(_detach(source, resume, out))
    begin = partial(_begin, source, overrides_of(sets, steps), steps, out, resume, junit, json or quiet)

    def train(opened: "OpenRun") -> int:
        return implementation.train(opened, requirements, json_lines=json, quiet=quiet, junit=junit)

    if distributed.is_distributed():
        from tui_lab.cli import distributed_run

        raise typer.Exit(distributed_run.run(begin, train))
    raise typer.Exit(train(begin()))


def _requirements(
    texts: list[str], baseline: str | None, source: str | None, resume: str | None, overrides: list[str]
) -> "list[Requirement]":
    """Return the requirements, those relative to the run `baseline` with their bounds."""
    from tui_lab.core.config import settings
    from tui_lab.core.runs import folder as runs
    from tui_lab.core.runs.baseline import baseline_summary
    from tui_lab.core.runs.summary import parse_requirement

    if baseline is None:
        return [parse_requirement(text) for text in texts]
    config = runs.find(resume).config() if resume is not None else settings.load(source or "", overrides)
    summary = baseline_summary(baseline, config)
    requirements = [parse_requirement(text, summary) for text in texts]
    if not any(requirement.of_baseline for requirement in requirements):
        message = "no requirement uses it; add one, such as --require 'val_loss<=baseline+0.02'"
        raise ConfigError.of("missing", message, key="--baseline", value=baseline)
    return requirements


def _begin(
    source: str | None,
    overrides: list[str],
    steps: int | None,
    out: Path | None,
    resume: str | None,
    junit: Path | None,
    silent: bool,
    group: "ProcessGroup | None" = None,
) -> "OpenRun":
    """Open a new run, or the run `resume`."""
    from tui_lab.cli.progress import preparing
    from tui_lab.cli.result_file import prepare
    from tui_lab.core.runs import open_run
    from tui_lab.core.training.distributed import SINGLE_PROCESS

    prepare(junit, "--junit")
    with preparing(silent=silent) as report:
        if resume is not None:
            return open_run.resume(resume, steps, progress=report, group=group or SINGLE_PROCESS)
        return open_run.start_from(source or "", overrides, out, progress=report, group=group or SINGLE_PROCESS)


def _detach(source: str | None, resume: str | None, out: Path | None) -> int:
    """Repeat this command line in the background, without --detach; return the exit code."""
    from tui_lab.cli import detach
    from tui_lab.core.training import distributed

    if distributed.is_distributed():
        raise ConfigError.of("conflict", "not allowed under torchrun", key="--detach")
    arguments = detach.arguments_without_detach()
    if resume is not None:
        return detach.resume(arguments, resume)
    return detach.start(arguments, Path(source or "").stem, out)

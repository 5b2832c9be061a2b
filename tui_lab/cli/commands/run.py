"""`tui-lab run`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tui_lab.cli.options import (
    AllowCode,
    Json,
    Junit,
    Quiet,
    Sets,
    Steps,
    complete_requirement,
    complete_run,
    complete_source,
    overrides_of,
    require_source_or_resume,
    trust_code,
)
from tui_lab.cli.output import user_prints_to_stderr
from tui_lab.util.errors import ConfigError

if TYPE_CHECKING:
    from tui_lab.core.runs.open_run import OpenRun
    from tui_lab.core.training.distributed import ProcessGroup

commands = typer.Typer()


@commands.command("run")
@user_prints_to_stderr()
def run(
    source: Annotated[
        str | None,
        typer.Argument(metavar="PRESET|CONFIG", help="A preset's name or a TOML file.", autocompletion=complete_source),
    ] = None,
    sets: Sets = None,
    steps: Steps = None,
    out: Annotated[Path | None, typer.Option(help="The run's folder; by default a new folder in runs/.")] = None,
    require: Annotated[
        list[str] | None,
        typer.Option(
            metavar="METRIC<=X",
            help="Exit 1 unless the summary meets this; <, >= and > are allowed too.",
            autocompletion=complete_requirement,
        ),
    ] = None,
    resume: Annotated[
        str | None,
        typer.Option(metavar="RUN", help="Resume a run exactly where it stopped.", autocompletion=complete_run),
    ] = None,
    allow_code: AllowCode = False,
    junit: Junit = None,
    json: Json = False,
    quiet: Quiet = False,
    detach: Annotated[
        bool,
        typer.Option(
            "--detach", metavar="", help="Train in the background; follow and steer it with: tui-lab app RUN."
        ),
    ] = False,
) -> None:
    """Train without the app: a progress bar on a terminal, plain lines elsewhere, or JSON."""
    require_source_or_resume("run", source, resume, "RUN")
    if resume is not None and (sets or out):
        raise ConfigError.of("conflict", "a resumed run keeps its settings; only --steps is allowed", key="--resume")
    from tui_lab.cli import run as implementation
    from tui_lab.cli.junit import prepare
    from tui_lab.cli.progress import preparing
    from tui_lab.core.runs import open_run
    from tui_lab.core.runs.summary import parse_requirement
    from tui_lab.core.training import distributed

    requirements = [parse_requirement(text) for text in require or []]
    trust_code(sets, allow_code, source=source, run=resume)

    def begin(group: "ProcessGroup" = distributed.SINGLE_PROCESS) -> "OpenRun":
        if junit is not None:
            prepare(junit)
        with preparing(silent=json or quiet) as report:
            if resume is not None:
                return open_run.resume(resume, steps, progress=report, group=group)
            return open_run.start_from(source or "", overrides_of(sets, steps), out, progress=report, group=group)

    def train(opened: "OpenRun") -> int:
        return implementation.train(opened, requirements, json_lines=json, quiet=quiet, junit=junit)

    if detach:
        from tui_lab.cli import detach as background

        if distributed.is_distributed():
            raise ConfigError.of("conflict", "not allowed under torchrun", key="--detach")
        arguments = background.arguments_without_detach()
        if resume is not None:
            raise typer.Exit(background.resume(arguments, resume))
        raise typer.Exit(background.start(arguments, Path(source or "").stem, out))
    if distributed.is_distributed():
        from tui_lab.cli import distributed_run

        raise typer.Exit(distributed_run.run(begin, train))
    raise typer.Exit(train(begin()))

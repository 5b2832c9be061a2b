"""The arguments and options that several commands take."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from tui_lab.cli import completion

complete_source, complete_any = map(completion.with_help, (completion.source, completion.source_or_run))
complete_run, complete_setting = map(completion.with_help, (completion.run, completion.setting))
complete_requirement = completion.with_help(completion.requirement)

Source = Annotated[
    str,
    typer.Argument(metavar="PRESET|CONFIG", help="A preset's name or a TOML file.", autocompletion=complete_source),
]
SourceOrRun = Annotated[
    str | None,
    typer.Argument(
        metavar="[PRESET|CONFIG|RUN]", help="Start a preset or file, or replay a run.", autocompletion=complete_any
    ),
]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a setting.", autocompletion=complete_setting),
]
Junit = Annotated[
    Path | None, typer.Option(metavar="FILE.xml", help="Write the outcome as a JUnit file, which CI services show.")
]
AllowCode = Annotated[
    bool, typer.Option("--allow-code", help="Run the Python file that the config or run names, now and later.")
]
Json = Annotated[bool, typer.Option("--json", help="JSON on stdout.")]


class WhichWeights(StrEnum):
    auto = "auto"
    last = "last"
    best = "best"


class SweepEngine(StrEnum):
    local = "local"
    ray = "ray"


class Text(StrEnum):
    plato = "plato"


def trust_code(
    sets: list[str] | None, allow_code: bool = False, source: str | None = None, run: str | None = None
) -> None:
    """Trust the Python file that the command line names as `model.source`.

    With `allow_code`, trust the one that the config `source` or the run `run` names too. Raises ConfigError, RunError.
    """
    from tui_lab.core.config import settings
    from tui_lab.core.runs import folder as runs
    from tui_lab.core.user_code import trust
    from tui_lab.core.user_code.import_file import is_user_code

    trust.allow_named(sets or [])
    if not allow_code or (source is not None and is_user_code(source)):
        return
    if source is not None and (source in settings.presets() or settings.is_file(Path(source))):
        config = settings.load(source, sets or [])
    elif run or source:
        config = runs.find(run or source or "").config()
    else:
        return
    if config.model.source:
        trust.allow(config.model.source)

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


def take_consent(sets: list[str] | None, allow_code: bool) -> None:
    """Whose Python may run: what this command names, or, by --allow-code, whatever its config names."""
    from tui_lab.core.user_code import trust

    trust.allow_named(sets or [])
    if allow_code:
        trust.allow_everything()

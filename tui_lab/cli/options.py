"""Arguments and options that several commands share."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from tui_lab.cli import completion
from tui_lab.util.errors import ConfigError

LAST_STEP = 10**12
"""The largest step that can be looked at; see tui_lab.core.config.schema."""

complete_source = completion.without_errors(completion.source)
complete_any = completion.without_errors(completion.source_or_run)
complete_script = completion.without_errors(completion.script)
complete_code = completion.without_errors(completion.finding_code)
complete_run = completion.without_errors(completion.run)
complete_setting = completion.without_errors(completion.setting)
complete_requirement = completion.without_errors(completion.requirement)

Source = Annotated[
    str,
    typer.Argument(metavar="PRESET|CONFIG", help="A preset's name or a TOML file.", autocompletion=complete_source),
]
OptionalSource = Annotated[
    str | None,
    typer.Argument(metavar="PRESET|CONFIG", help="A preset's name or a TOML file.", autocompletion=complete_source),
]
SourceOrRun = Annotated[
    str | None,
    typer.Argument(
        metavar="PRESET|CONFIG|RUN",
        help="Start a preset or config; follow a run in training, or replay a finished one.",
        autocompletion=complete_any,
    ),
]
OneRun = Annotated[str, typer.Argument(metavar="RUN", help="A run's folder or name.", autocompletion=complete_run)]
Runs = Annotated[
    list[str], typer.Argument(metavar="RUN…", help="Folders or names of runs.", autocompletion=complete_run)
]
ScriptArguments = Annotated[
    list[str] | None, typer.Argument(metavar="-- ARGS…", help="Arguments of SCRIPT.py.", show_default=False)
]
ScriptModule = Annotated[
    str | None, typer.Option("-m", metavar="MODULE", help="A module in place of SCRIPT.py, as for python -m.")
]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a setting.", autocompletion=complete_setting),
]
KeptStep = Annotated[
    int | None,
    typer.Option(min=0, max=LAST_STEP, help="Use the kept checkpoint at or before this step; default: the newest."),
]
Steps = Annotated[int | None, typer.Option(help="Same as --set train.steps=N.")]
Junit = Annotated[Path | None, typer.Option(metavar="FILE.xml", help="Write the result as a JUnit file for CI.")]
AllowCode = Annotated[
    bool,
    typer.Option(
        "--allow-code", metavar="", help="Trust the Python file named in the config or run, now and in future runs."
    ),
]
Json = Annotated[bool, typer.Option("--json", metavar="", help="Print JSON to stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", metavar="", help="Print only the result.")]


class Part(StrEnum):
    train = "train"
    val = "val"


class Weights(StrEnum):
    auto = "auto"
    last = "last"
    best = "best"


class GenerationPrecision(StrEnum):
    auto = "auto"
    fp32 = "fp32"
    bf16 = "bf16"


class SweepEngine(StrEnum):
    local = "local"
    ray = "ray"


def require_source_or_resume(command: str, source: str | None, resume: str | None, what: str) -> None:
    """Raise ConfigError unless exactly one of `source` and `resume` is given."""
    if source is None and resume is None:
        raise ConfigError.of("missing", f"give a PRESET or CONFIG to start, or --resume {what}", key=command)
    if source is not None and resume is not None:
        raise ConfigError.of("conflict", f"give either a PRESET or CONFIG, or --resume {what}, not both", key=command)


def overrides_of(sets: list[str] | None, steps: int | None) -> list[str]:
    """Return the KEY=VALUE overrides of --set and --steps."""
    return [*(sets or []), *([] if steps is None else [f"train.steps={steps}"])]


def trust_code(
    sets: list[str] | None, allow_code: bool = False, source: str | None = None, run: str | None = None
) -> None:
    """Trust the Python file that the command line names as `model.source`.

    With `allow_code`, trust the one that the config `source` or the run `run` names too. Raises ConfigError, RunError.
    """
    from tui_lab.core.config import settings
    from tui_lab.core.config.schema import Config
    from tui_lab.core.config.script import RunConfig
    from tui_lab.core.runs import folder as runs
    from tui_lab.core.user_code import trust
    from tui_lab.core.user_code.import_file import is_user_code

    trust.allow_named(sets or [])
    if not allow_code or (source is not None and is_user_code(source)):
        return
    if source is not None and (source in settings.presets() or settings.is_file(Path(source))):
        config: RunConfig = settings.load(source, sets or [])
    elif run or source:
        config = runs.find(run or source or "").config()
    else:
        return
    if isinstance(config, Config) and config.model.source:
        trust.allow(config.model.source)

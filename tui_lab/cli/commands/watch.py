"""`tui-lab watch`."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from tui_lab.cli.options import complete_script
from tui_lab.util.errors import ConfigError
from tui_lab.util.terminal import why_no_app

commands = typer.Typer()

_WITH_VALUE = ("--out", "-m")


ScriptArguments = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="SCRIPT [ARGS]…",
        help="The script, and its own arguments.",
        autocompletion=complete_script,
        show_default=False,
    ),
]
Out = Annotated[Path | None, typer.Option(metavar="DIR", help="The run's folder; by default a new folder in runs/.")]
NoTrace = Annotated[
    bool, typer.Option("--no-trace", metavar="", help="Do not look for what became infinite or NaN first.")
]


NoCode = Annotated[bool, typer.Option("--no-code", metavar="", help="Do not keep the script's code in the run folder.")]


class WatchCommand(TyperCommand):
    """What follows the script or `-m MODULE` belongs to the script, options and any later `--` included."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, _with_end_of_options(args))

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        return ["[--headless] [--out DIR]", "SCRIPT|-m MODULE", "[ARGS]…"]


def _with_end_of_options(arguments: list[str]) -> list[str]:
    """Put `--` after the options of `watch`. The script itself ends them already, `-m MODULE` does not."""
    i = 0
    while i < len(arguments) and arguments[i].startswith("-") and arguments[i] != "--":
        i += 2 if arguments[i] in _WITH_VALUE else 1
        if arguments[i - 2 : i - 1] == ["-m"] or _is_joined_module(arguments[i - 1]):
            return [*arguments[:i], "--", *arguments[i:]]
    return arguments


def _is_joined_module(word: str) -> bool:
    """Return whether `word` is -mMODULE, as Python accepts it."""
    return word.startswith("-m") and len(word) > 2


@commands.command(
    "watch",
    cls=WatchCommand,
    context_settings={"allow_interspersed_args": False},
)
def watch(
    script_and_arguments: ScriptArguments = None,
    module: Annotated[
        str | None, typer.Option("-m", metavar="MODULE", help="A module in place of SCRIPT, as for python -m.")
    ] = None,
    headless: Annotated[
        bool, typer.Option("--headless", metavar="", help="Run here without the app; follow with: tui-lab app RUN.")
    ] = False,
    out: Out = None,
    no_trace: NoTrace = False,
    no_code: NoCode = False,
) -> None:
    """Record the training of any PyTorch script, unchanged, and steer it from the app.

    The script trains in the background: quit the app or close the terminal, and it keeps training.
    Everything after SCRIPT or -m MODULE is passed to the script, so give --headless and --out before it. A `--` right
    after SCRIPT may separate the two.
    """
    from tui_lab.cli import watch as implementation
    from tui_lab.cli.watch_target import check
    from tui_lab.core.nonfinite.record import TRACE_VARIABLE
    from tui_lab.core.runs import folder as runs
    from tui_lab.core.runs.code import CODE_VARIABLE
    from tui_lab.core.watch.process.script_process import Target

    script, arguments = _script_and_arguments(script_and_arguments or [], module)
    target = Target(script, tuple(arguments), is_module=module is not None)
    check(target)
    if out is not None:
        runs.refuse_taken(out)
    if no_trace:
        os.environ[TRACE_VARIABLE] = "off"
    if no_code:
        os.environ[CODE_VARIABLE] = "off"
    if headless:
        implementation.run_headless(target, out)
    _require_app()
    raise typer.Exit(implementation.run_in_background(target, out))


def _require_app() -> None:
    """Raise ConfigError where the app cannot be opened."""
    if "RANK" in os.environ:
        raise ConfigError.of("conflict", "the app cannot be opened under torchrun; use: tui-lab watch --headless")
    if reason := why_no_app():
        raise ConfigError.of("unavailable", f"the app {reason}; without one use: tui-lab watch --headless")


def _script_and_arguments(script_and_arguments: list[str], module: str | None) -> tuple[str, list[str]]:
    if module:
        return module, _without_separator(script_and_arguments)
    if not script_and_arguments:
        raise ConfigError.of("missing", "give a SCRIPT, or -m MODULE", key="watch")
    return script_and_arguments[0], _without_separator(script_and_arguments[1:])


def _without_separator(arguments: list[str]) -> list[str]:
    """Drop a leading `--`: `tui-lab doctor` needs it between SCRIPT and the script's arguments, so people write it."""
    return arguments[1:] if arguments[:1] == ["--"] else arguments

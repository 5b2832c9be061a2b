"""The entry point of `tui-lab`: registers the commands, and turns errors into messages and exit codes."""

import functools
import sys
import warnings
from collections.abc import Callable
from io import TextIOWrapper
from typing import Annotated, Any, TextIO

import typer
from typer.core import TyperGroup

from tui_lab.cli import completion
from tui_lab.cli.commands import app as app_commands
from tui_lab.cli.commands import (
    bench,
    config,
    data,
    doctor,
    examples,
    explain,
    generate,
    inside,
    learn,
    lr_find,
    memory,
    randomness,
    report,
    run,
    runs,
    show,
    speed,
    sweep,
    watch,
)
from tui_lab.cli.output import say
from tui_lab.cli.signals import discard_unread_output, exit_code_of
from tui_lab.cli.usage_hints import usage_hint
from tui_lab.core.config.renamed import RenamedKeyWarning
from tui_lab.core.kernels.process_tuning import reduce_gc
from tui_lab.util.errors import ConfigError, DataError, RunError, TrainingError
from tui_lab.util.exit_codes import BAD_USAGE, FAILED, INTERRUPTED, UNREAD

HELP = "A terminal lab for training your own transformer: watch, steer and debug the run live."


class Commands(TyperGroup):
    """All commands. typer would end each of them with 130, whichever signal has interrupted it, and 1 after SIGPIPE."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            raise typer.Exit(exit_code_of(error)) from error
        except BrokenPipeError as error:
            discard_unread_output()
            raise typer.Exit(UNREAD) from error


app = typer.Typer(
    cls=Commands,
    name="tui-lab",
    help=HELP,
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for group in (
    app_commands,
    learn,
    run,
    watch,
    sweep,
    lr_find,
    memory,
    speed,
    generate,
    examples,
    inside,
    doctor,
    explain,
    show,
    randomness,
    report,
    config,
    data,
    runs,
    bench,
):
    app.add_typer(group.commands)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"tui-lab {version('tui-lab')}")
        raise typer.Exit


@app.callback(help=f"{HELP} Without a command it opens the app.")
def start(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option(
            "--version", metavar="", is_eager=True, callback=_print_version, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        app_commands.open_app()


@functools.cache
def command() -> Callable[..., Any]:
    """`app` with all its commands. A process that calls `main` several times builds it once."""
    return typer.main.get_command(app)


def main() -> None:
    """Run the command line. Errors are printed to stderr; exit codes are those of `tui_lab.util.exit_codes`."""
    reduce_gc()
    _show_notices()
    for stream in (sys.stdout, sys.stderr):
        # A file name may not be UTF-8, and a terminal may not be able to show it: escape instead of raising.
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if sys.argv[1:2] == ["doctor"] and sys.argv[-1] == "--explain":
        sys.argv.append("list")  # typer has no options whose value may be left out.
    try:
        with completion.bash_words():
            code = _run_command()
            sys.stdout.flush()  # What is wrong with stdout is shown here; at exit it would be a traceback.
            sys.exit(code)
    except typer.TyperException as error:
        _print_usage_error(error)
        sys.exit(BAD_USAGE)
    except (ConfigError, DataError, RunError) as error:
        _print_error(str(error))
        sys.exit(BAD_USAGE)
    except TrainingError as error:
        _print_error(str(error))
        sys.exit(FAILED)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output is gone (`| head`); the interpreter must not flush to it at exit either.
        discard_unread_output()
        sys.exit(UNREAD)
    except OSError as error:
        _print_error(f"{error.filename}: {error.strerror}" if error.filename else str(error))
        sys.exit(BAD_USAGE)


def _run_command() -> Any:
    """Run the command that `sys.argv` names, and return its exit code.

    Raises KeyboardInterrupt where typer says that the user has stopped it. typer says so after each EOFError, too, of
    a damaged file as well: that error is raised.
    """
    try:
        return command()(prog_name="tui-lab", standalone_mode=False) or 0
    except typer.Abort as abort:
        raise abort.__cause__ if isinstance(abort.__cause__, EOFError) else KeyboardInterrupt from None


def _show_notices() -> None:
    """Show warnings of old keys as lines of ours, without the place in the code where Python noticed them."""
    show_others = warnings.showwarning

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if issubclass(category, RenamedKeyWarning):
            _print_error(str(message))
        else:
            show_others(message, category, filename, lineno, file, line)

    warnings.showwarning = show


def _print_usage_error(error: typer.TyperException) -> None:
    # A group called without a command has already printed its help.
    if type(error).__name__ == "NoArgsIsHelpError":
        return
    context = getattr(error, "ctx", None)
    if context is not None:
        typer.echo(context.get_usage(), err=True)
    _print_error(error.format_message())
    command = "" if context is None else context.info_name or ""
    if hint := usage_hint(command, sys.argv[2:], error):
        _print_error(hint)


def _print_error(message: str) -> None:
    """Print each line of `message` to stderr, escaped: a name or value in it may come from anywhere."""
    for line in message.splitlines():
        say(f"tui-lab: {line}")

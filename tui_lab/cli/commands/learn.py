"""`tui-lab learn`."""

from pathlib import Path
from typing import Annotated

import typer

from tui_lab.cli import completion
from tui_lab.cli.options import AllowCode, Json
from tui_lab.util.errors import ConfigError
from tui_lab.util.terminal import why_no_app

commands = typer.Typer()

Lesson = Annotated[
    str | None,
    typer.Argument(
        metavar="LESSON|FOLDER",
        help="A lesson's name or number; or the folder of a lesson, or of several.",
        autocompletion=completion.without_errors(completion.lesson),
    ),
]
List = Annotated[bool, typer.Option("--list", metavar="", help="List the lessons with your progress.")]
Check = Annotated[
    bool, typer.Option("--check", metavar="", help="Check the files of a lesson, and list every problem.")
]
Train = Annotated[
    bool,
    typer.Option("--train", metavar="", help="With --check: train all its runs, and check what its text says of them."),
]
Seeds = Annotated[int, typer.Option(metavar="N", min=1, max=100, help="With --train: the number of seeds.")]
Export = Annotated[
    Path | None, typer.Option(metavar="FILE.html", help="Write what you did in a lesson, to hand it in.")
]
Schema = Annotated[
    bool, typer.Option("--schema", metavar="", help="Print the JSON schema of a lesson.toml, for editors.")
]


@commands.command("learn")
def learn(
    lesson: Lesson = None,
    list_: List = False,
    check: Check = False,
    train: Train = False,
    seeds: Seeds = 1,
    export: Export = None,
    schema: Schema = False,
    json: Json = False,
    allow_code: AllowCode = False,
) -> None:
    """Take a lesson in the app, with real runs. Without LESSON it shows the list of lessons."""
    from tui_lab.cli import learn as lessons

    modes = {"--list": list_, "--check": check, "--export": export is not None, "--schema": schema}
    given = [name for name, is_given in modes.items() if is_given]
    if len(given) > 1:
        raise ConfigError.of("conflict", f"not together with {given[0]}", key=given[1])
    if (train or seeds > 1) and not check:
        raise ConfigError.of("conflict", "needs --check", key="--train" if train else "--seeds")
    if json and not (list_ or check):
        raise ConfigError.of("conflict", "needs --list or --check", key="--json")
    if schema:
        lessons.show_schema()
        return
    folder = lessons.folder_of(lesson)
    if check:
        raise typer.Exit(lessons.check(folder, seeds=seeds if train else 0, as_json=json, allow_code=allow_code))
    if list_:
        lessons.show_list(folder, as_json=json)
    elif export is not None:
        lessons.export(folder, export)
    else:
        _open_app(folder, allow_code=allow_code)


def _open_app(folder: Path, *, allow_code: bool) -> None:
    """Open the app at the lesson in `folder`, or at the list of those in its folders."""
    from tui_lab.cli import learn as lessons

    if reason := why_no_app():
        raise ConfigError.of("unavailable", f"a lesson {reason}; without one use: tui-lab learn --list")
    lessons.require_lessons(folder, allow_code=allow_code)
    from tui_lab.app.main import main as run_app
    from tui_lab.core.lessons import load

    raise typer.Exit(run_app(lesson="" if folder == load.BUILTIN else str(folder)))

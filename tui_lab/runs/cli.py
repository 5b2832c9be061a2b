"""`tui-lab runs`: the commands. Each imports what it needs when it runs."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from tui_lab.cli.output import user_prints_to_stderr

Json = Annotated[bool, typer.Option("--json", help="JSON on stdout.")]
OneRun = Annotated[str, typer.Argument(metavar="RUN", help="A run's folder or name.")]
Runs = Annotated[list[str], typer.Argument(metavar="RUN…", help="Folders or names of runs.")]

runs_app = typer.Typer(help="Look at earlier runs, compare, keep and export them.", no_args_is_help=True)


class Format(StrEnum):
    csv = "csv"
    json = "json"
    tensorboard = "tensorboard"
    svg = "svg"
    png = "png"
    html = "html"


@runs_app.command("ls")
def ls(
    folder: Annotated[
        Path | None, typer.Argument(metavar="[DIR]", help="Where to look, sweeps included; by default runs/.")
    ] = None,
    sort: Annotated[str, typer.Option(metavar="KEY", help="A figure or setting; -KEY: the largest first.")] = "created",
    where: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY<VALUE", help="Only these; <=, >, >=, =, !=, ~ too; or part of a name, or a tag."),
    ] = None,
    json: Json = False,
) -> None:
    """Earlier runs, the oldest first."""
    from tui_lab.runs.listing import list_runs

    list_runs(folder, sort, where or [], as_json=json)


@runs_app.command("show")
def show(run: OneRun, json: Json = False) -> None:
    """One run: what it came to, its settings beside the defaults, what was changed while it ran, its notes."""
    from tui_lab.runs.listing import show_run

    show_run(run, as_json=json)


@runs_app.command("compare")
@user_prints_to_stderr()
def compare(
    runs: Runs,
    prompt: Annotated[str | None, typer.Option(help="Let each go on from this, side by side.")] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1)] = 100,
    temperature: Annotated[float, typer.Option(help="0 takes the likeliest token.")] = 0.8,
    seed: Annotated[int, typer.Option(help="The same for each.")] = 0,
    curves: Annotated[
        Path | None, typer.Option(metavar="FILE.svg|png", help="Lay the loss curves over each other in a picture.")
    ] = None,
    json: Json = False,
) -> None:
    """Several runs side by side: the settings that differ, and what each came to."""
    from tui_lab.runs.comparing import Speech, compare_runs

    speech = None if prompt is None else Speech(prompt, max_new_tokens, temperature, seed)
    compare_runs(runs, speech, curves, as_json=json)


@runs_app.command("export")
def export(
    runs: Runs,
    to: Annotated[Path, typer.Option(metavar="FILE", help="Its ending says the format.")],
    form: Annotated[
        Format | None, typer.Option("--format", help="Where the ending does not; tensorboard: a folder.")
    ] = None,
) -> None:
    """Records as CSV, JSON or TensorBoard event files (.tfevents), curves as SVG or PNG, a report as HTML."""
    from tui_lab.runs.exporting import export_runs

    export_runs(runs, to, None if form is None else form.value)


@runs_app.command("tag")
def tag(
    run: OneRun,
    tags: Annotated[list[str] | None, typer.Argument(metavar="[TAG…]", help="Tags to add.")] = None,
    drop: Annotated[list[str] | None, typer.Option(metavar="TAG", help="A tag to take away.")] = None,
) -> None:
    """Add tags to a run, or take some away; prints those it has then."""
    from tui_lab.runs.tagging import tag_run

    tag_run(run, tags or [], drop or [])


@runs_app.command("note")
def note(run: OneRun, text: Annotated[str, typer.Argument(help="In place of the note before; empty: none.")]) -> None:
    """Write a note on a run."""
    from tui_lab.runs.tagging import note_run

    note_run(run, text)


@runs_app.command("rm")
def rm(runs: Runs, yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False) -> None:
    """Remove runs for good, after asking."""
    from tui_lab.runs.tagging import remove_runs

    remove_runs(runs, yes=yes)

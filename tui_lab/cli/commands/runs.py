"""`tui-lab runs`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from tui_lab.cli.options import LAST_STEP, AllowCode, Json, OneRun, Runs, trust_code
from tui_lab.cli.output import user_prints_to_stderr

commands = typer.Typer(name="runs", help="List, compare, tag, import, export and delete runs.", no_args_is_help=True)


class Format(StrEnum):
    csv = "csv"
    json = "json"
    tensorboard = "tensorboard"
    svg = "svg"
    png = "png"
    html = "html"


@commands.command("ls")
def ls(
    folder: Annotated[
        Path | None, typer.Argument(metavar="DIR", help="Where to look, sweeps included; by default runs/.")
    ] = None,
    sort: Annotated[
        str, typer.Option(metavar="KEY", help="Sort by a figure or setting; -KEY sorts largest first.")
    ] = "-created",
    where: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY<VALUE", help="Filter: <, <=, >, >=, =, != or ~; or part of a name; or a tag."),
    ] = None,
    json: Json = False,
) -> None:
    """List runs, the newest first."""
    from tui_lab.cli.runs import list_runs

    list_runs(folder, sort, where or [], as_json=json)


@commands.command("show")
def show(run: OneRun, json: Json = False) -> None:
    """Show one run: its summary, the settings that differ from the default, live changes, tags and note."""
    from tui_lab.cli.runs import show_run

    show_run(run, as_json=json)


@commands.command("trace")
@user_prints_to_stderr()
def trace(
    run: OneRun,
    step: Annotated[
        int | None,
        typer.Option(
            min=1, max=LAST_STEP, help="The step, counted from 1; by default the one at which the run failed."
        ),
    ] = None,
    allow_code: AllowCode = False,
    json: Json = False,
) -> None:
    """Say what became infinite or NaN first: train again from the last checkpoint before a step, and follow it.

    Exit 1 if something did. Nothing is written.
    """
    from tui_lab.cli.runs import trace_run

    trust_code(None, allow_code, run=run)
    raise typer.Exit(trace_run(run, step, as_json=json))


@commands.command("compare")
@user_prints_to_stderr()
def compare(
    runs: Runs,
    prompt: Annotated[
        list[str] | None, typer.Option(help="Generate a reply from each run, side by side; may be given several times.")
    ] = None,
    max_new_tokens: Annotated[
        int | None,
        typer.Option(min=1, help="Maximum number of tokens to generate; by default 100, or as many as the answer has."),
    ] = None,
    temperature: Annotated[float, typer.Option(help="0 takes the most likely token.")] = 0.8,
    seed: Annotated[int, typer.Option(help="Random seed, the same for every run.")] = 0,
    curves: Annotated[
        Path | None, typer.Option(metavar="FILE.svg|png", help="Draw the loss curves in one figure.")
    ] = None,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="Write the comparison as a page, with the loss curves.")
    ] = None,
    code: Annotated[
        bool, typer.Option("--code", metavar="", help="For scripts: print the lines of code that differ.")
    ] = False,
    json: Json = False,
) -> None:
    """Compare runs side by side: settings that differ, and results. A sweep over seeds stands for its trials."""
    from tui_lab.cli.runs import ComparisonFiles, compare_runs
    from tui_lab.runs.comparing import Prompts

    prompts = Prompts(list(dict.fromkeys(prompt)), max_new_tokens, temperature, seed) if prompt else None
    compare_runs(runs, prompts, ComparisonFiles(curves, html), code=code, as_json=json)


@commands.command("export")
def export(
    runs: Runs,
    to: Annotated[Path, typer.Option(metavar="FILE", help="The file to write; its suffix determines the format.")],
    form: Annotated[
        Format | None,
        typer.Option("--format", help="The format, if the suffix does not determine it; tensorboard: a folder."),
    ] = None,
) -> None:
    """Export event logs as CSV, JSON or TensorBoard event files, curves as SVG or PNG, a report as HTML."""
    from tui_lab.cli.runs import export_runs

    export_runs(runs, to, None if form is None else form.value)


@commands.command("import")
def import_(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A log, or a folder with one or several.")],
    name: Annotated[str | None, typer.Option(help="The run's name; by default that of the file or folder.")] = None,
    form: Annotated[
        str | None,
        typer.Option("--format", metavar="FORMAT", help="tensorboard, csv or trainer-state; by default by the name."),
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(metavar="VALUE=NAME", help="Which column is a value, as in train_loss=my_loss; several times."),
    ] = None,
    number_rows: Annotated[
        bool, typer.Option("--number-rows", metavar="", help="For CSV files: count the rows as steps.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The run's folder; for several runs, their parent folder.")
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", metavar="", help="Replace an imported run of the same name.")
    ] = False,
    json: Json = False,
) -> None:
    """Import logs of other programs as runs: TensorBoard event files, CSV, trainer_state.json of Hugging Face.

    They are listed, drawn and compared as any other run. They have no weights.
    """
    from tui_lab.cli.runs import import_logs
    from tui_lab.runs.importing import Target

    target = Target(name, out, replace)
    import_logs(path, form, column or [], target, number_rows=number_rows, as_json=json)


@commands.command("tag")
def tag(
    run: OneRun,
    tags: Annotated[list[str] | None, typer.Argument(metavar="TAG…", help="Tags to add.")] = None,
    drop: Annotated[list[str] | None, typer.Option(metavar="TAG", help="A tag to remove.")] = None,
) -> None:
    """Add tags to a run or remove some, then print its tags."""
    from tui_lab.cli.runs import tag as tag_run

    tag_run(run, tags or [], drop or [])


@commands.command("note")
def note(
    run: OneRun, text: Annotated[str, typer.Argument(help="Replaces the note; an empty text removes it.")]
) -> None:
    """Write a note on a run."""
    from tui_lab.runs.tagging import note_run

    note_run(run, text)


@commands.command("rm")
def rm(
    runs: Runs,
    yes: Annotated[bool, typer.Option("--yes", "-y", metavar="", help="Delete without confirmation.")] = False,
) -> None:
    """Delete runs permanently, after confirmation."""
    from tui_lab.cli.runs import delete_runs

    delete_runs(runs, yes=yes)

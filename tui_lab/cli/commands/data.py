"""`tui-lab data`."""

from enum import StrEnum
from typing import Annotated

import typer

from tui_lab.cli.options import Json, Sets, Source

commands = typer.Typer(name="data", help="Inspect data, or download a corpus.", no_args_is_help=True)


class Corpus(StrEnum):
    plato = "plato"


@commands.command("info")
def info(source: Source, sets: Sets = None, json: Json = False) -> None:
    """Show tokens, vocabulary, examples and the length of an epoch."""
    from tui_lab.cli.show import show_data

    show_data(source, sets or [], as_json=json)


@commands.command("fetch")
def fetch(corpus: Annotated[Corpus, typer.Argument(help="The text to download.")]) -> None:
    """Download a public-domain text, check its hash, and print its path for data.path."""
    from tui_lab.data.corpora.fetch import fetch as fetch_plato

    # There is one corpus so far; the argument leaves room for more.
    typer.echo(fetch_plato())

"""`tui-lab examples`."""

from enum import StrEnum
from typing import Annotated

import typer

from tui_lab.cli.options import AllowCode, Json, KeptStep, OneRun, Part, trust_code
from tui_lab.cli.output import user_prints_to_stderr

commands = typer.Typer()


class By(StrEnum):
    loss = "loss"
    wrong = "wrong"
    duplicates = "duplicates"
    classes = "classes"


@commands.command("examples")
@user_prints_to_stderr()
def examples(
    run: OneRun,
    by: Annotated[
        By,
        typer.Option(
            help="loss: the hardest ones; wrong: most often wrong over the kept checkpoints; "
            "duplicates: copies, also of validation data in the training data; classes: where the loss lies."
        ),
    ] = By.loss,
    part: Annotated[Part, typer.Option(help="Training or validation data.")] = Part.train,
    step: KeptStep = None,
    top: Annotated[int, typer.Option(min=1, max=10_000, help="How many examples to list.")] = 10,
    sample: Annotated[
        int | None,
        typer.Option(min=0, help="Measure at most this many examples; 0: all. By default about 131,000 targets."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="The seed of the sample.")] = 0,
    similarity: Annotated[
        float, typer.Option(min=0.5, max=1.0, help="Least Jaccard index of near-duplicates; 1: equal ones only.")
    ] = 0.7,
    allow_code: AllowCode = False,
    json: Json = False,
) -> None:
    """List a run's hardest examples, those most often wrong, duplicates, or the loss by class of token."""
    from tui_lab.cli.examples import show_examples
    from tui_lab.core.examples.examine import ExamplesRequest

    trust_code(None, allow_code, run=run)
    request = ExamplesRequest(by.value, part.value, step, top, sample, seed, similarity)
    show_examples(run, request, as_json=json)

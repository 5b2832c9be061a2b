"""`tui-lab inside`."""

from enum import StrEnum
from typing import Annotated

import typer

from tui_lab.cli.options import AllowCode, Json, KeptStep, OneRun, Part, trust_code
from tui_lab.cli.output import user_prints_to_stderr

commands = typer.Typer()


class View(StrEnum):
    lens = "lens"
    ablation = "ablation"
    norms = "norms"
    layers = "layers"


class Replacement(StrEnum):
    zero = "zero"
    mean = "mean"


@commands.command("inside")
@user_prints_to_stderr()
def inside(
    run: OneRun,
    view: Annotated[
        list[View] | None, typer.Option(help="Show only this view; may be given several times. By default all.")
    ] = None,
    example: Annotated[int | None, typer.Option(min=0, help="The number of the example; 0 by default.")] = None,
    part: Annotated[Part, typer.Option(help="Training or validation data.")] = Part.val,
    text: Annotated[str | None, typer.Option(help="A text of your own in place of an example.")] = None,
    step: KeptStep = None,
    replace_by: Annotated[
        Replacement, typer.Option(help="Ablation: what takes the place of a part's output: zeros, or its mean.")
    ] = Replacement.zero,
    others: Annotated[
        int, typer.Option(min=0, max=1024, help="Ablation: further examples whose mean loss is measured too.")
    ] = 3,
    top: Annotated[
        int, typer.Option(min=0, help="How many positions and ablations are printed, those that matter most; 0: all.")
    ] = 16,
    allow_code: AllowCode = False,
    json: Json = False,
) -> None:
    """Look inside a run's model: logit lens, ablation of heads and layers, norms, gradients and dead units."""
    from tui_lab.cli.inside import show_inside
    from tui_lab.core.examples.inside import VIEWS, InsideRequest
    from tui_lab.util.errors import ConfigError

    if text is not None and example is not None:
        raise ConfigError.of("conflict", "give either a text or an example, not both", key="--text")
    trust_code(None, allow_code, run=run)
    views = VIEWS if not view else tuple(each for each in VIEWS if each in view)
    request = InsideRequest(views, step, part.value, example or 0, text, others, replace_by.value)
    show_inside(run, request, top, as_json=json)

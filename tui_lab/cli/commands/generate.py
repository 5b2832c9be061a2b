"""`tui-lab generate`."""

from typing import Annotated

import typer

from tui_lab.cli.options import AllowCode, GenerationPrecision, Json, OneRun, Weights, trust_code
from tui_lab.cli.output import user_prints_to_stderr

commands = typer.Typer()


@commands.command("generate")
@user_prints_to_stderr()
def generate(
    run: OneRun,
    prompt: Annotated[str, typer.Option(help="The text to continue.")],
    max_new_tokens: Annotated[
        int | None,
        typer.Option(min=1, help="Maximum number of tokens to generate; by default 200, or as many as the answer has."),
    ] = None,
    temperature: Annotated[float, typer.Option(help="0 takes the most likely token.")] = 0.8,
    top_k: Annotated[int, typer.Option(help="Sample from the k most likely tokens; 0 turns it off.")] = 0,
    top_p: Annotated[float, typer.Option(help="Sample from the top tokens with this total p; 1 turns it off.")] = 1.0,
    seed: Annotated[int, typer.Option(help="The same seed gives the same text.")] = 0,
    weights: Annotated[
        Weights, typer.Option(help="auto: the best ones if the run stops early, else the last ones.")
    ] = Weights.auto,
    precision: Annotated[
        GenerationPrecision,
        typer.Option(help="bf16 is faster on processors that have it, but less exact; auto: as the run was trained."),
    ] = GenerationPrecision.auto,
    allow_code: AllowCode = False,
    json: Json = False,
) -> None:
    """Generate text from a run's weights."""
    from tui_lab.cli.generate import generate_text
    from tui_lab.core.inference.sampling import Sampling

    trust_code(None, allow_code, run=run)
    sampling = Sampling(temperature, top_k, top_p, seed)
    generate_text(run, prompt, max_new_tokens, sampling, weights.value, precision.value, json_lines=json)

"""`tui-lab bench`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from tui_lab.cli.options import Json
from tui_lab.cli.output import say
from tui_lab.util.exit_codes import FAILED

commands = typer.Typer(name="bench", help="Measure speed, side by side in one process.", no_args_is_help=True)


@commands.command("ui")
def ui(
    preset: Annotated[
        list[str] | None, typer.Option(help="The presets to train; by default reverse and pseudo-socrates.")
    ] = None,
    size: Annotated[str, typer.Option(metavar="COLUMNSxLINES", help="Size of the terminal.")] = "120x40",
    json: Json = False,
) -> None:
    """Cost of the app: steps/s with and without it, time from key to paint, time to the first frame."""
    from tui_lab.bench.ui_overhead import bench_ui, parse_size
    from tui_lab.cli.output import write_figures

    write_figures(bench_ui(preset or ["reverse", "pseudo-socrates"], parse_size(size)), as_json=json)


@commands.command("train")
def train(
    preset: Annotated[str, typer.Option(help="The shape to train.")] = "pseudo-socrates",
    rounds: Annotated[int | None, typer.Option(min=2, help="Steps per model, alternating between them.")] = None,
    json: Json = False,
) -> None:
    """Steps/s compared with other transformers of the same shape and with the machine's GEMM limit."""
    from tui_lab.bench.train import bench_train
    from tui_lab.cli.output import write_figures

    write_figures(bench_train(preset, rounds), as_json=json)


@commands.command("generate")
def generate(
    rounds: Annotated[int, typer.Option(min=2, help="Texts per program, alternating between them.")] = 15,
    json: Json = False,
) -> None:
    """Tokens/s compared with Hugging Face's generate and with a loop without a cache; time to the first token."""
    from tui_lab.bench.generate import bench_generate
    from tui_lab.cli.output import write_figures

    write_figures(bench_generate(rounds=rounds), as_json=json)


@commands.command("headline")
def headline(
    text: Annotated[
        str, typer.Option(metavar="FILE", help="The text to train on; by default the bundled dialogues.")
    ] = "bundled",
    target: Annotated[float, typer.Option(min=0, help="The running train loss to reach.")] = 0.37,
    loop: Annotated[
        bool, typer.Option(metavar="", help="Also train a nanoGPT-style loop, which takes longest.")
    ] = True,
    json: Json = False,
) -> None:
    """Time, memory and tokens until the lab notebook's final loss, compared with a nanoGPT-style loop."""
    from tui_lab.bench.time_to_loss import bench_headline
    from tui_lab.cli.output import write_figures

    write_figures(bench_headline(text, target, loop=loop), as_json=json)


@commands.command("sweep")
def sweep(
    preset: Annotated[
        list[str] | None, typer.Option(help="The presets to train; by default reverse and socrates.")
    ] = None,
    trials: Annotated[int, typer.Option(min=2, help="Trials of a sweep.")] = 4,
    turns: Annotated[int, typer.Option(min=1, help="Sweeps of each kind, alternating.")] = 3,
    json: Json = False,
) -> None:
    """Trials per minute of a sweep: one trial at a time, and with `--jobs auto`."""
    from tui_lab.bench.sweep_speed import bench_sweep
    from tui_lab.cli.output import write_figures

    write_figures(bench_sweep(preset or (), trials, turns), as_json=json)


@commands.command("start")
def start(json: Json = False) -> None:
    """Seconds until --help, the first frame and the first step."""
    from tui_lab.bench.startup_time import bench_start
    from tui_lab.cli.output import write_figures

    write_figures(bench_start(), as_json=json)


@commands.command("flat")
def flat(
    events: Annotated[int, typer.Option(min=1000, help="Number of events in the long run.")] = 1_000_000,
    mib: Annotated[int, typer.Option(min=8, help="Size of the corpus.")] = 1024,
    json: Json = False,
) -> None:
    """Time and memory of a million events and of a corpus of one GiB."""
    from tui_lab.bench.long_run_cost import bench_flat
    from tui_lab.cli.output import write_figures

    write_figures(bench_flat(events, mib), as_json=json)


@commands.command("watch")
def watch(
    pairs: Annotated[int, typer.Option(min=1, help="Pairs of processes, one after the other.")] = 3,
    turns: Annotated[int, typer.Option(min=2, help="Turns of each process of a pair.")] = 24,
    memory_steps: Annotated[int, typer.Option(min=2000, help="Steps until memory is measured again.")] = 10_000,
    device: Annotated[str, typer.Option(help="Where the script's model is: cpu or cuda.")] = "cpu",
    json: Json = False,
) -> None:
    """Cost of `tui-lab watch`: the time of a script's steps with and without it, and memory after many steps."""
    from tui_lab.bench.watch_cost import bench_watch
    from tui_lab.cli.output import write_figures

    figures = bench_watch(pairs=pairs, turns=turns, memory_steps=memory_steps, device=device)
    write_figures(figures, as_json=json)


@commands.command("scale")
def scale(
    preset: Annotated[str, typer.Option(help="The shape to train.")] = "pseudo-socrates",
    rounds: Annotated[int, typer.Option(min=2, help="Steps measured.")] = 15,
    json: Json = False,
) -> None:
    """Cost of several processes, started by torchrun: bytes and ms of all_reduce."""
    from tui_lab.bench.ddp_cost import bench_scale
    from tui_lab.cli.output import write_figures

    figures = bench_scale(preset, rounds)
    if figures is not None:
        write_figures(figures, as_json=json)


@commands.command("all")
def everything(
    text: Annotated[str, typer.Option(metavar="FILE", help="As in `headline`.")] = "bundled",
    write: Annotated[
        Path | None, typer.Option(metavar="FILE.md", help="Write the tables between the markers in this file.")
    ] = None,
    json: Json = False,
) -> None:
    """Run all benchmarks, which takes an hour, and print docs/performance.md. Needs an otherwise idle machine."""
    from tui_lab.bench.report import bench_all, markdown, write_into
    from tui_lab.cli.output import write_json

    def so_far(figures: dict[str, Any]) -> None:
        if write is not None:
            write_into(write, figures)

    figures = bench_all(text, say, so_far)
    if json:
        write_json(figures)
    else:
        typer.echo(markdown(figures))
    if figures["failed"]:
        raise typer.Exit(FAILED)

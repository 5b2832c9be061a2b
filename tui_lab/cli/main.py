"""The command line. Each command imports what it needs when it runs, so that --help need not wait for torch."""

import os
import shlex
import sys
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated

import typer

from tui_lab.bench.cli import bench_app
from tui_lab.cli import completion
from tui_lab.cli.options import (
    AllowCode,
    Json,
    Junit,
    Sets,
    Source,
    SourceOrRun,
    SweepEngine,
    Text,
    WhichWeights,
    complete_any,
    complete_requirement,
    complete_run,
    complete_source,
    trust_code,
)  # fmt: skip
from tui_lab.cli.output import user_prints_to_stderr
from tui_lab.core.kernels.process_tuning import raise_gc_threshold
from tui_lab.runs.cli import runs_app
from tui_lab.util.errors import ConfigError, DataError, RunError, TrainingError
from tui_lab.util.escape import printable
from tui_lab.util.exit_codes import BAD_USAGE, FAILED, INTERRUPTED

LAST_STEP = 10**12
"""The furthest that one may look; see tui_lab.core.config.schema."""

app = typer.Typer(
    name="tui-lab",
    help="A laboratory in a terminal for training transformers written from scratch.",
    invoke_without_command=True,
    pretty_exceptions_enable=False,
)
config_app = typer.Typer(help="Look at settings.", no_args_is_help=True)
data_app = typer.Typer(help="Look at data, or fetch some.", no_args_is_help=True)
app.add_typer(config_app, name="config")
app.add_typer(data_app, name="data")
app.add_typer(runs_app, name="runs")
app.add_typer(bench_app, name="bench")


@app.callback()
def start(context: typer.Context) -> None:
    """A laboratory in a terminal for training transformers written from scratch. Alone it opens the app."""
    if context.invoked_subcommand is None:
        open_app()


@app.command("app")
def open_app(
    source: SourceOrRun = None,
    sets: Sets = None,
) -> None:
    """The app: four panes over a live training, steered from the keyboard."""
    # Under `serve` the browser is the terminal: textual-serve names a driver that speaks to it through pipes.
    if not (os.environ.get("TEXTUAL_DRIVER") or (sys.stdin.isatty() and sys.stdout.isatty())):
        raise ConfigError(["the app needs a terminal; without one use: tui-lab run PRESET"])
    from tui_lab.app.main import main as run_app

    trust_code(sets)
    raise typer.Exit(run_app(source, sets or []))


@app.command()
@user_prints_to_stderr()
def run(
    source: Annotated[
        str | None,
        typer.Argument(metavar="PRESET|CONFIG", help="A preset or a TOML file.", autocompletion=complete_source),
    ] = None,
    sets: Sets = None,
    steps: Annotated[int | None, typer.Option(help="Same as --set train.steps=N.")] = None,
    out: Annotated[Path | None, typer.Option(help="The run's folder; by default a new one in runs/.")] = None,
    require: Annotated[
        list[str] | None,
        typer.Option(
            metavar="METRIC<=X",
            help="Exit 1 unless the summary meets this; <, >=, > too.",
            autocompletion=complete_requirement,
        ),
    ] = None,
    resume: Annotated[
        str | None,
        typer.Option(metavar="RUN", help="Go on exactly where a run stopped.", autocompletion=complete_run),
    ] = None,
    allow_code: AllowCode = False,
    junit: Junit = None,
    json: Json = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only the result.")] = False,
) -> None:
    """Train without the app: a progress bar on a terminal, plain lines elsewhere, or JSON."""
    from tui_lab.cli import run as headless
    from tui_lab.cli.junit import prepare
    from tui_lab.cli.progress import preparing
    from tui_lab.core.runs import open_run
    from tui_lab.core.runs.summary import parse_requirement
    from tui_lab.core.training import distributed

    requirements = [parse_requirement(text) for text in require or []]
    trust_code(sets, allow_code, source=source, run=resume)
    overrides = [*(sets or []), *([] if steps is None else [f"train.steps={steps}"])]
    if (source is None) == (resume is None):
        raise ConfigError(["run: give either a PRESET or CONFIG to start, or --resume RUN to go on"])
    if resume is not None and (sets or out):
        raise ConfigError(["--resume goes on with the run's own settings: only --steps may be given with it"])

    def begin(group: distributed.ProcessGroup = distributed.SINGLE_PROCESS) -> open_run.Opened:
        if junit is not None:
            prepare(junit)
        with preparing(silent=json or quiet) as report:
            if resume is not None:
                return open_run.reopen(resume, steps, progress=report, group=group)
            return open_run.start(source or "", overrides, out, progress=report, group=group)

    def train(opened: open_run.Opened) -> int:
        return headless.train(opened, requirements, json_lines=json, quiet=quiet, junit=junit)

    if distributed.is_distributed():
        from tui_lab.cli import distributed_run

        raise typer.Exit(distributed_run.run(begin, train))
    raise typer.Exit(train(begin()))


@app.command()
@user_prints_to_stderr()
def sweep(
    source: Annotated[str | None, typer.Argument(metavar="PRESET|CONFIG", help="A preset or a TOML file.")] = None,
    over: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=V1,V2,…", help="What to try; KEY=LOW..HIGH[:log] to draw from, with --random."),
    ] = None,
    sets: Sets = None,
    steps: Annotated[int | None, typer.Option(help="Same as --set train.steps=N.")] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="Repeat every point with N seeds.")] = None,
    random: Annotated[int | None, typer.Option(min=1, help="Draw N points instead of trying all.")] = None,
    random_seed: Annotated[int | None, typer.Option(min=0, help="Of the points drawn.")] = None,
    metric: Annotated[str | None, typer.Option(help="Rank by this; by default the loss that the config minds.")] = None,
    prune: Annotated[bool, typer.Option("--prune", help="Stop trials that are worse than the median so far.")] = False,
    jobs: Annotated[int | None, typer.Option(min=1, help="Trials at once; they share the cores.")] = None,
    engine: Annotated[SweepEngine | None, typer.Option(help="Processes here, or a Ray cluster.")] = None,
    out: Annotated[Path | None, typer.Option(help="The sweep's folder; one with the same sweep is joined.")] = None,
    resume: Annotated[str | None, typer.Option(metavar="SWEEP", help="Go on with a sweep, or join it.")] = None,
    json: Json = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only the result.")] = False,
) -> None:
    """Train a config many times, with other values or seeds; stop it, resume it, join it from a second terminal."""
    from tui_lab.core.runs.sweep import folder as sweeps
    from tui_lab.sweep import command as front

    given = {"seeds": seeds, "random": random, "random_seed": random_seed, "metric": metric, "jobs": jobs}
    options = {key: value for key, value in given.items() if value is not None} | ({"prune": True} if prune else {})
    faces = front.Faces(json, quiet)
    if (source is None) == (resume is None):
        raise ConfigError(["sweep: give either a PRESET or CONFIG to start, or --resume SWEEP to go on"])
    if resume is not None:
        if over or sets or out or steps or options.keys() - {"jobs"}:
            raise ConfigError(["--resume goes on with the sweep's own trials: only --jobs and --engine go with it"])
        raise typer.Exit(front.go_on(sweeps.find(resume), engine, jobs, faces))
    from tui_lab.core.runs.sweep.plan import Engine, plan
    from tui_lab.core.runs.sweep.search_space import split

    axes = (axis.partition("=") for axis in over or [])
    trust_code([*(sets or []), *(f"{key}={value}" for key, _, values in axes for value in split(values))])
    overrides = [*(sets or []), *([] if steps is None else [f"train.steps={steps}"])]
    kind: Engine = "ray" if engine == SweepEngine.ray else "local"
    command = shlex.join(["tui-lab", *sys.argv[1:]])
    planned = plan(source or "", overrides, over or [], options, engine=kind, command=command)
    raise typer.Exit(front.begin(planned, out, kind, jobs, faces))


@app.command()
@user_prints_to_stderr()
def generate(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run's folder or name.", autocompletion=complete_run)],
    prompt: Annotated[str, typer.Option(help="What to go on from.")],
    max_new_tokens: Annotated[int, typer.Option(min=1)] = 200,
    temperature: Annotated[float, typer.Option(help="0 takes the likeliest token.")] = 0.8,
    top_k: Annotated[int, typer.Option(help="Only the k likeliest; 0 is off.")] = 0,
    top_p: Annotated[float, typer.Option(help="Only the likeliest that make up this mass; 1 is off.")] = 1.0,
    seed: Annotated[int, typer.Option(help="The same seed gives the same text.")] = 0,
    weights: Annotated[
        WhichWeights, typer.Option(help="auto: best where the run stops early, else last.")
    ] = WhichWeights.auto,
    allow_code: AllowCode = False,
    json: Json = False,
) -> None:
    """Let a trained model go on from a prompt."""
    from tui_lab.cli.generate import speak
    from tui_lab.core.inference.sampling import Sampling

    trust_code(None, allow_code, run=run)
    speak(run, prompt, max_new_tokens, Sampling(temperature, top_k, top_p, seed), weights.value, json_lines=json)


@app.command()
def batch(
    source: Source,
    step: Annotated[int, typer.Option(min=0, max=LAST_STEP, help="Which step's batch; any, past or future.")] = 0,
    examples: Annotated[int, typer.Option(min=1, help="How many examples to print.")] = 1,
    sets: Sets = None,
    json: Json = False,
) -> None:
    """Show the x and y that a step trains on, token by token."""
    from tui_lab.cli.show import show_batch

    show_batch(source, sets or [], step, examples, as_json=json)


@app.command()
def presets(json: Json = False) -> None:
    """The configs that come with the lab: command, expected time, expected result."""
    from tui_lab.cli.show import show_presets

    show_presets(as_json=json)


@config_app.command("show")
def config_show(source: Source, sets: Sets = None, json: Json = False) -> None:
    """All settings, and the parameter count in the appendix's notation."""
    from tui_lab.cli.show import show_config

    show_config(source, sets or [], as_json=json)


@config_app.command("schema")
def config_schema() -> None:
    """The JSON schema of a config file."""
    from tui_lab.cli.show import show_schema

    show_schema()


@config_app.command("validate")
def config_validate(source: Source, sets: Sets = None) -> None:
    """Check a config, alone and against its data; exit 2 and every problem where it is wrong."""
    from tui_lab.cli.show import validate

    validate(source, sets or [])


@data_app.command("info")
def data_info(source: Source, sets: Sets = None, json: Json = False) -> None:
    """Tokens, vocabulary, examples and the length of an epoch."""
    from tui_lab.cli.show import show_data

    show_data(source, sets or [], as_json=json)


@data_app.command("fetch")
def data_fetch(text: Annotated[Text, typer.Argument(help="What to bring.")]) -> None:
    """Download a public-domain text, checked by hash; prints its path for data.path."""
    from tui_lab.data.corpora.fetch import fetch

    typer.echo(fetch())


@app.command()
@user_prints_to_stderr()
def report(
    source: Annotated[str, typer.Argument(metavar="RUN|SWEEP", help="The folder or name of a run or sweep.")],
    to: Annotated[Path, typer.Option(metavar="FILE.html", help="One file, which needs nothing else.")],
    prompt: Annotated[
        list[str] | None, typer.Option(help="What the model is to go on from; by default held-out examples.")
    ] = None,
) -> None:
    """A page to read, print and give away: curves, settings, changes, samples, findings, chance, environment."""
    from tui_lab.report.run_report import report_on

    report_on(source, to, prompt or [])


@app.command()
@user_prints_to_stderr()
def doctor(
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="[PRESET|CONFIG|RUN|FILE.py:NAME]", help="What to examine.", autocompletion=complete_any
        ),
    ] = None,
    sets: Sets = None,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds that FILE.py:NAME may take.")] = 60.0,
    self_test: Annotated[
        bool, typer.Option("--self-test", help="Examine the doctor: all faults in all designs.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of the self-test's shapes.")] = 0,
    junit: Junit = None,
    allow_code: AllowCode = False,
    json: Json = False,
) -> None:
    """Name the cause of a training that does not learn; exit 1 where one was found, 4 where a check crashed."""
    from tui_lab.cli import doctor as front
    from tui_lab.cli import junit as junit_file
    from tui_lab.cli.show import write_json
    from tui_lab.core.doctor.diagnose import examine_source

    trust_code(sets, allow_code, source=source)
    if self_test:
        raise typer.Exit(front.self_test(seed, as_json=json))
    if source is None:
        raise ConfigError(["doctor: name a PRESET, CONFIG, RUN or FILE.py:NAME to examine"])
    if junit is not None:
        junit_file.prepare(junit)
    report = examine_source(source, sets or [], timeout)
    if junit is not None:
        junit_file.write(junit, f"doctor {source}", junit_file.of_report(report))
    if json:
        write_json({"source": source, **report.to_json()})
    else:
        front.show(report, source)
    raise typer.Exit(front.exit_code(report))


@app.command()
@user_prints_to_stderr()
def randomness(
    source: Source,
    step: Annotated[int, typer.Option(min=0, max=LAST_STEP, help="At which update; any, past or future.")] = 0,
    pin: Annotated[bool, typer.Option("--pin", help="Print the config with every source pinned.")] = False,
    sets: Sets = None,
    allow_code: AllowCode = False,
    json: Json = False,
) -> None:
    """Every source of randomness: its seed, pinned or free, and a fingerprint of what it draws at a step."""
    from tui_lab.cli.show import show_randomness

    trust_code(sets, allow_code, source=source)
    show_randomness(source, sets or [], step, as_json=json, pin=pin)


@app.command()
def faults(json: Json = False) -> None:
    """The classic mistakes that `faults` in a config makes on purpose."""
    from tui_lab.cli.show import show_faults

    show_faults(as_json=json)


@app.command()
def serve(
    source: Annotated[str | None, typer.Argument(metavar="[PRESET|CONFIG|RUN]", autocompletion=complete_any)] = None,
    host: Annotated[str, typer.Option(help="Loopback addresses only, unless --i-understand-the-risk.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8000,
    risk: Annotated[
        bool,
        typer.Option("--i-understand-the-risk", help="Whoever reaches the port trains, reads and writes files as you."),
    ] = False,
) -> None:
    """The app in a browser on this machine."""
    from tui_lab.cli.serve import serve as serve_app

    serve_app(source, host, port, risk=risk)


def main() -> None:
    """The entry point: errors for people on stderr, exit codes by the contract."""
    raise_gc_threshold()
    for stream in (sys.stdout, sys.stderr):
        # A name that is not UTF-8, or a terminal that is not: its characters are escaped rather than an error.
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        with completion.words_of_bash():
            sys.exit(app(prog_name="tui-lab", standalone_mode=False) or 0)
    except typer.TyperException as error:
        # Where a command group is called without a command, its help has been shown already.
        if type(error).__name__ != "NoArgsIsHelpError":
            context = getattr(error, "ctx", None)
            if context is not None:
                typer.echo(context.get_usage(), err=True)
            _complain(error.format_message())
        sys.exit(BAD_USAGE)
    except (ConfigError, DataError, RunError) as error:
        _complain(str(error))
        sys.exit(BAD_USAGE)
    except TrainingError as error:
        _complain(str(error))
        sys.exit(FAILED)
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output has gone (`| head`): nothing may be flushed there at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as error:
        _complain(f"{error.filename}: {error.strerror}" if error.filename else str(error))
        sys.exit(BAD_USAGE)


def _complain(message: str) -> None:
    """On stderr, a line each; escaped, since a name or value in it may have come from anywhere."""
    for line in message.splitlines():
        typer.echo(f"tui-lab: {printable(line)}", err=True)

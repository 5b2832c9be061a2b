"""`tui-lab speed SCRIPT.py`: where the time of a script's steps goes, and which changes make them faster."""

import linecache
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from rich.table import Table
from rich.text import Text

from tui_lab.cli.output import console, say, write_json
from tui_lab.cli.signals import interrupt_on_signals
from tui_lab.core.watch.process.recorded_script import ScriptToRun
from tui_lab.core.watch.speed.comparison import Effect, Ratio
from tui_lab.core.watch.speed.line_sampler import Line
from tui_lab.core.watch.speed.phases import Phase
from tui_lab.core.watch.speed.script_speed import ScriptSpeed, StepTime, Tried, measure_speed
from tui_lab.core.watch.speed.turns import MIN_ROUNDS
from tui_lab.util.escape import printable
from tui_lab.util.exit_codes import DONE, FAILED, NOT_JUDGED
from tui_lab.util.plural import counted

PHASES: dict[Phase, str] = {
    "data": "waiting for the DataLoader",
    "forward": "forward pass and loss",
    "backward": "backward pass",
    "update": "clipping and optimizer",
    "loop": "the rest of the loop",
}
EFFECTS: dict[Effect, str] = {
    "faster": "faster",
    "slower": "slower",
    "none": "no difference",
    "unclear": "not clear",
}
NAMES = {"bf16": "bfloat16 autocast", "fused": "fused optimizer", "compile": "torch.compile"}
MAX_LINES = 8
SMALL_LINE = 0.02
"""Of the time: lines that take less are not listed."""
BORDERS = 15
"""Columns of the table of lines that are neither the line nor its source."""
MUCH = 0.15
"""Of the time: a part that takes so much besides the model is worth an advice."""
BUSY = 1.5
"""Processes for each CPU that want to run, from which on a machine is called busy."""


def show_speed(script: ScriptToRun, seconds: float, *, compile_too: bool, as_json: bool) -> int:
    """Measure a script and print tables, or JSON. Raises ConfigError if it makes no step.

    The exit code is FAILED if an error ended the script, and NOT_JUDGED if it made too few steps to try any change.
    """
    name = script.target.script
    if not as_json:
        say(f"speed: running {name} for {seconds:.0f} s or more; it writes no checkpoint and changes no existing file")

    def show_step_time(step: StepTime, least_seconds: float | None) -> None:
        if as_json:
            return
        _print(headline(name, step), phases_of(step), "", "Lines of your code that take most of it:")
        _print(lines_of(step, Path(script.folder or "."), console().width))
        if least_seconds is not None:
            rounds = f"{MIN_ROUNDS} rounds take about {_time(least_seconds)}"
            say(f"speed: now the changes, one at a time, by turns with the script as it is; {rounds}")

    with interrupt_on_signals():  # So that the process of the script ends with this one.
        speed = measure_speed(script, seconds, compile_too=compile_too, on_step_time=show_step_time)
    if as_json:
        step = speed.step
        write_json({"source": name} | asdict(speed) | {"seconds": step.seconds, "advice": list(advice(speed))})
    else:
        if speed.n_steps:
            _print("", "Speed with one change, by turns with the script as it is:", changes_of(speed))
        _print(*notes(speed), *(f"- {each}" for each in advice(speed)))
    return FAILED if speed.has_failed else DONE if speed.n_steps else NOT_JUDGED


def headline(name: str, step: StepTime) -> str:
    """Return how long a step takes, and on what."""
    n, unit = (step.tokens, "tokens") if step.tokens else (step.samples, "samples")
    rate = f", {n / step.seconds:,.0f} {unit}/s" if n else ""
    threads = f", {counted(step.threads, 'thread')}" if step.device == "cpu" else ""
    return f"{name}: {_time(step.seconds)} a step{rate}, {step.device}{threads}"


def phases_of(step: StepTime) -> Table:
    """Return where the time of a step goes."""
    table = Table()
    table.add_column("part of a step")
    table.add_column("share", justify="right")
    table.add_column("time", justify="right")
    for phase, text in _parts(step).items():
        seconds = step.phases[phase]
        table.add_row(text, f"{seconds / step.seconds:.0%}", _time(seconds))
    return table


def _parts(step: StepTime) -> dict[Phase, str]:
    """Return the parts of a step that are known: the model may not be found, and updates may be made by hand."""
    unknown: dict[Phase, str] = {}
    if not step.model:
        unknown["forward"] = "the forward pass"
    if not step.optimizers:
        unknown["update"] = "the update"
    parts = {phase: text for phase, text in PHASES.items() if phase not in unknown}
    if step.workers is None:
        del parts["data"]
    if unknown:
        parts["loop"] += f", with {' and '.join(unknown.values())}"
    return parts


def lines_of(step: StepTime, folder: Path, width: int) -> Table:
    """Return the lines that take most of the time, with as much of their source as fits into `width` columns.

    folder: in which the script runs.
    """
    listed = [(share, *_shown(line, folder)) for line, share in step.lines if share >= SMALL_LINE][:MAX_LINES]
    room = max(10, width - BORDERS - max((len(place) for _, place, _ in listed), default=0))
    table = Table()
    table.add_column("share", justify="right")
    table.add_column("line", overflow="fold")
    table.add_column("source", max_width=room, overflow="ellipsis", no_wrap=True)
    for share, place, source in listed:
        table.add_row(f"{share:.0%}", Text(place), Text(source))
    return table


def changes_of(speed: ScriptSpeed) -> Table:
    """Return how much faster the script is with each change."""
    table = Table()
    table.add_column("change")
    table.add_column("speed", justify="right")
    table.add_column("middle half", justify="right")
    table.add_column("rounds", justify="right")
    table.add_column("result", overflow="fold")
    for tried in speed.tried:
        table.add_row(*map(Text, (tried.text, *_figures(tried.ratio), printable(_result(tried)))))
    return table


def notes(speed: ScriptSpeed) -> Iterator[str]:
    """Yield what was not measured, and what disturbs the figures."""
    for name, why in speed.not_tried.items() if speed.n_steps else ():
        yield f"{NAMES.get(name, name)} was not tried: {why}"
    for tried in speed.tried:
        if tried.error:
            yield f"{tried.text} failed: {tried.error}"
    if speed.ended:
        yield f"the script ended before all was measured: {speed.ended}"
    elif any(tried.ratio and tried.ratio.effect == "unclear" for tried in speed.tried):
        yield "not clear: the rounds are too few or differ too much; more --seconds give more rounds"
    n_cpus = os.cpu_count() or 1
    if speed.step.device == "cpu" and (load := _load()) > BUSY * n_cpus:
        yield f"the machine is busy: a load of {load:.1f} on {counted(n_cpus, 'CPU')}; the figures are those of now"
    for error in speed.errors:
        yield f"part of the measurement failed (a bug in tui-lab): {error}"


def advice(speed: ScriptSpeed) -> Iterator[str]:
    """Yield what makes the script faster, as far as it was measured."""
    faster = [(tried.ratio.median, tried) for tried in speed.tried if tried.ratio and tried.ratio.effect == "faster"]
    for median, tried in sorted(faster, key=lambda each: -each[0]):
        yield f"{tried.text}, {median:.2f} times as fast: {tried.code}"
    step = speed.step
    evaluation = step.phases["evaluation"] / (step.seconds + step.phases["evaluation"])
    if evaluation >= MUCH:
        yield f"{evaluation:.0%} of the whole time is evaluation, which the table leaves out: evaluate less often"
    waiting = step.phases["data"] / step.seconds
    if waiting >= MUCH and step.workers is not None:
        more = f"more than {counted(step.workers, 'worker')}, or less work for each item"
        how = more if step.workers else "DataLoader(…, num_workers=2) loads it beside the training"
        yield f"{waiting:.0%} of a step is waiting for data: {how}"
    loop = step.phases["loop"] / step.seconds
    if loop >= MUCH and step.model and step.optimizers:
        yield f"{loop:.0%} of a step is neither data, model nor optimizer, but the rest of the loop: see the lines"


def _figures(ratio: Ratio | None) -> tuple[str, str, str]:
    if ratio is None:
        return "", "", ""
    middle = f"{ratio.low:.2f}x to {ratio.high:.2f}x" if ratio.n_rounds > 1 else ""
    return f"{ratio.median:.2f}x", middle, str(ratio.n_rounds)


def _result(tried: Tried) -> str:
    if tried.error:
        return "failed"
    return "not measured" if tried.ratio is None else EFFECTS[tried.ratio.effect]


def _print(*parts: str | Table) -> None:
    for part in parts:
        console().print(Text(printable(part)) if isinstance(part, str) else part)


def _shown(line: Line, folder: Path) -> tuple[str, str]:
    """Return where a line is, and its source, or the function of a library that it calls."""
    if not line.place:
        return "", line.function or "outside of your code"
    file, _, number = line.place.rpartition(":")
    path = Path(file)
    shown = f"…/{path.parent.name}/{path.name}:{number}" if path.is_absolute() else line.place
    source = linecache.getline(str(folder / file), int(number)).strip()
    return printable(shown), printable(f"{line.function}()" if line.function else source)


def _load() -> float:
    """Return the load of the last minute, 0 where the system does not say."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0


def _time(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1000 * seconds:.3g} ms"

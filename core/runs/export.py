"""Export runs for other programs: CSV, JSON and TensorBoard event files."""

import codecs
import csv
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import fields
from pathlib import Path
from typing import Any, BinaryIO

from tui_lab.core import events as ev
from tui_lab.core.config import script
from tui_lab.core.config.schema import Config
from tui_lab.core.runs import tensorboard
from tui_lab.core.runs.catalog import read_notes
from tui_lab.core.runs.folder import Run, config_text
from tui_lab.core.runs.run_files import CONFIG
from tui_lab.core.runs.summary import Summary, summarize_log
from tui_lab.util import files
from tui_lab.util.errors import ConfigError, RunError
from tui_lab.util.strict_json import dumps

COLUMNS = tuple(
    dict.fromkeys(
        field.name
        for kind in (ev.StepDone, ev.Evaluated)
        for field in fields(kind)
        if field.name not in ("kind", "extra", "by_layer", "time")
    )
)
"""Of the CSV, after run and event: those of steps, then those that only evaluations have."""
LOGGED = "logged/"
"""What the names of logged values and texts begin with in an export."""

_STEP_TAGS = {
    "loss/train": "loss",
    "loss/running": "loss_ema",
    "optim/lr": "lr",
    "optim/grad_norm": "grad_norm",
    "optim/update_ratio": "update_ratio",
    "model/dead_units": "dead_units",
}
_EVALUATED_TAGS = {
    "loss/validation": "val_loss",
    "metric/exact_match": "exact_match",
    "metric/perplexity": "perplexity",
}


def summary_of(run: Run) -> Summary:
    """Return the summary of a run; computed from its event log where it was killed before it wrote one."""
    return run.current_summary() or summarize_log(run.downsampled()).summary(str(run.path))


def to_csv(runs: Mapping[str, Run], path: Path) -> None:
    """Write a line for each step and evaluation of the runs, and for what scripts logged. Raises RunError."""
    columns = tuple(dict.fromkeys((*COLUMNS, *(column for run in runs.values() for column in _script_columns(run)))))
    with _writing(path) as out:
        rows = csv.writer(codecs.getwriter("utf-8")(out))
        rows.writerow(("run", "event", *columns))
        for name, run in runs.items():
            for event in run.events():
                if (values := _csv_values(event)) is not None:
                    rows.writerow((name, event.kind, *(values.get(column) for column in columns)))


def _script_columns(run: Run) -> Iterable[str]:
    """Return the columns that only this run has: measurements by layer, further ones, logged values and texts."""
    with suppress(ConfigError):
        if isinstance(run.config(), Config):
            # Its event log does not have to be read twice.
            steps = (event for event in run.downsampled().events() if isinstance(event, ev.StepDone))
            return dict.fromkeys(name for step in steps for name in layer_values(step))
    return dict.fromkeys(name for event in run.events() for name in _csv_values(event) or ())


def _csv_values(event: ev.Event) -> dict[str, Any] | None:
    """Return the values of a line by column; None for an event that has no line."""
    match event:
        case ev.StepDone(extra=extra):
            values = (extra or {}) | layer_values(event) | vars(event)
        case ev.Evaluated():
            values = dict(vars(event))
        case ev.Logged():
            values = {LOGGED + name: value for name, value in (event.values | event.texts).items()}
            values["step"] = event.step
        case _:
            return None
    return {name: value for name, value in values.items() if name not in ("kind", "extra", "by_layer", "time")}


def layer_values(step: ev.StepDone) -> dict[str, float]:
    """Return the measurements by layer of a step, by names such as "grad_norm/layers.0"."""
    by_layer = step.by_layer or {}
    return {f"{name}/{layer}": value for name, values in by_layer.items() for layer, value in values.items()}


def to_json(runs: Mapping[str, Run], path: Path) -> None:
    """Write {"runs": [{name, summary, config, tags, note, events}]}, in bounded memory. Raises RunError."""
    with _writing(path) as out:
        out.write(b'{"runs": [')
        for number, (name, run) in enumerate(runs.items()):
            notes = read_notes(run.path)
            head = {
                "name": name,
                "summary": summary_of(run).to_json(),
                "config": run.config().model_dump(mode="json"),
                "tags": notes.tags,
                "note": notes.note,
            }
            out.write((",\n" if number else "\n").encode() + dumps(head).removesuffix("}").encode() + b', "events": [')
            for place, event in enumerate(run.events()):
                out.write((",\n" if place else "\n").encode() + dumps(event.to_json()).encode())
            out.write(b"\n]}")
        out.write(b"\n]}\n")


def to_tensorboard(runs: Mapping[str, Run], folder: Path) -> None:
    """Write a folder for each run with one event file, as TensorBoard expects it. Raises RunError."""
    for name, run in runs.items():
        to_event_file(run, folder / name / f"events.out.tfevents.{int(_created(run))}.tui-lab")


def to_event_file(run: Run, path: Path) -> None:
    """Write the losses, measurements, metrics and config of a run as one event file. Raises RunError."""
    with _writing(path) as out:
        tensorboard.write_events(out, _event_messages(run), _created(run))


def _event_messages(run: Run) -> Iterator[bytes]:
    """Yield the messages of an event file. Wall time: the start of the run plus the time of its steps."""
    time = _created(run)
    config = run.config()
    speed = f"speed/{script.unit_of(config)}_per_s"
    yield tensorboard.text(0, time, "config", f"```toml\n{config_text(config)}```")
    for event in run.events():
        match event:
            case ev.StepDone():
                time += event.seconds
                extra = {_extra_tag(name): value for name, value in (event.extra or {}).items()}
                values = extra | layer_values(event) | _values(event, _STEP_TAGS) | {speed: event.tokens_per_s}
                yield tensorboard.scalars(event.step, time, values)
            case ev.Evaluated():
                yield tensorboard.scalars(event.step, time, _values(event, _EVALUATED_TAGS))
            case ev.Changed():
                yield tensorboard.text(event.step, time, "changes", f"`{event.key}`: {event.old} → {event.new}")
            case ev.Logged():
                if event.values:
                    logged = {LOGGED + name: value for name, value in event.values.items()}
                    yield tensorboard.scalars(event.step, time, logged)
                for name, text in event.texts.items():
                    yield tensorboard.text(event.step, time, LOGGED + name, _code_block(text))
            case ev.Failed():
                text = f"{event.message}\n{event.details}".rstrip()
                yield tensorboard.text(event.step, time, "failure", _code_block(text))


def _extra_tag(name: str) -> str:
    """Return the tag of a further measurement, such as "lr/1", "loss/2" or "memory_mib"."""
    if name.startswith("loss/"):
        return name
    return f"memory/{name}" if "memory" in name else f"optim/{name}"


def _code_block(text: str) -> str:
    """`text` in Markdown, as it is."""
    return "\n".join(f"    {line}" for line in text.splitlines())


def _values(event: ev.Event, tags: Mapping[str, str]) -> dict[str, float]:
    values = {tag: getattr(event, name) for tag, name in tags.items()}
    return {tag: value for tag, value in values.items() if value is not None}


def _created(run: Run) -> float:
    return (run.path / CONFIG).stat().st_mtime


@contextmanager
def _writing(path: Path) -> Iterator[BinaryIO]:
    """A file to write to, written atomically. Raises RunError where it cannot be written."""
    try:
        with files.new_file(path) as out:
            yield out
    except OSError as error:
        raise RunError.of("unwritable", f"not written: {error.strerror}", key=str(path)) from error

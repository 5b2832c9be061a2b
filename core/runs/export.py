"""Export runs for other programs: CSV, JSON and TensorBoard event files."""

import codecs
import csv
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import BinaryIO

from tui_lab.core import events as ev
from tui_lab.core.config import settings
from tui_lab.core.runs import tensorboard
from tui_lab.core.runs.catalog import read_notes
from tui_lab.core.runs.folder import CONFIG, Run
from tui_lab.core.runs.summary import Summary, summarize_log
from tui_lab.util import files
from tui_lab.util.errors import RunError
from tui_lab.util.strict_json import dumps

COLUMNS = tuple(
    dict.fromkeys(field.name for kind in (ev.StepDone, ev.Evaluated) for field in fields(kind) if field.name != "kind")
)
"""Of the CSV, after run and event: those of updates, then those that only evaluations have."""

_STEP_TAGS = {
    "loss/train": "loss",
    "loss/running": "loss_ema",
    "optim/lr": "lr",
    "optim/grad_norm": "grad_norm",
    "optim/update_ratio": "update_ratio",
    "model/dead_units": "dead_units",
    "speed/tokens_per_s": "tokens_per_s",
}
_EVALUATED_TAGS = {
    "loss/validation": "val_loss",
    "metric/exact_match": "exact_match",
    "metric/perplexity": "perplexity",
}


def summary_of(run: Run) -> Summary:
    """The summary of a run; computed from its event log where it was killed before it wrote one."""
    return run.summary() or summarize_log(run.downsampled()).summary(str(run.path))


def to_csv(runs: Mapping[str, Run], path: Path) -> None:
    """Write a line for each step and evaluation of the runs. Raises RunError."""
    with _writing(path) as out:
        rows = csv.writer(codecs.getwriter("utf-8")(out))
        rows.writerow(("run", "event", *COLUMNS))
        for name, run in runs.items():
            for event in run.events():
                if isinstance(event, ev.StepDone | ev.Evaluated):
                    values = asdict(event)
                    rows.writerow((name, event.kind, *(values.get(column) for column in COLUMNS)))


def to_json(runs: Mapping[str, Run], path: Path) -> None:
    """Write {"runs": [{name, summary, config, tags, note, events}]}, in bounded memory. Raises RunError."""
    with _writing(path) as out:
        out.write(b'{"runs": [')
        for number, (name, run) in enumerate(runs.items()):
            notes = read_notes(run.path)
            head = {
                "name": name,
                "summary": summary_of(run).to_json(),
                "config": run.trainer_config().model_dump(mode="json"),
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
    """The messages of an event file. Wall time: the start of the run plus the time of its steps."""
    time = _created(run)
    yield tensorboard.text(0, time, "config", f"```toml\n{settings.to_toml(run.trainer_config())}```")
    for event in run.events():
        match event:
            case ev.StepDone():
                time += event.seconds
                yield tensorboard.scalars(event.step, time, _values(event, _STEP_TAGS))
            case ev.Evaluated():
                yield tensorboard.scalars(event.step, time, _values(event, _EVALUATED_TAGS))
            case ev.Changed():
                yield tensorboard.text(event.step, time, "changes", f"`{event.key}`: {event.old} → {event.new}")


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

"""Read a run folder after a kill, and describe a finished run so that two can be compared."""

import json
import re
from pathlib import Path
from typing import Any

from tui_lab.core import events as ev
from tui_lab.core.inference.load_model import load_model
from tui_lab.core.runs.folder import Run
from tui_lab.core.training import checkpoint as ckpt
from tui_lab.util.files import TEMPORARY

TIMES = re.compile(r'"(crc32|seconds)": [^,]+,?')


def readable(run: Run) -> dict[str, int]:
    """Read every file of a run whose process was killed; count what is unfinished. Raises what the readers raise."""
    for read in (run.config, run.tokenizer, run.downsampled, run.summary):
        read()
    events = run.path / "events.jsonl"
    recorded = list(run.events())
    saved = sorted(run.checkpoints.glob("step-*"))
    progress = [ckpt.load(path).progress for path in saved]
    superseded = [earlier for earlier in progress[:-1] if earlier.best_step != earlier.step]
    if saved:
        load_model(run)
    return {
        "torn_lines": int(events.exists() and not (events.read_bytes() or b"\n").endswith(b"\n")),
        "temporaries": len(list(run.path.rglob(f"{TEMPORARY}*"))),
        "superseded_checkpoint": int(bool(superseded)),
        "no_checkpoint": int(not saved),
        "checkpoint_without_event": int(bool(saved) and not _has_saved_event(recorded, run)),
    }


def _has_saved_event(events: list[ev.Event], run: Run) -> bool:
    newest = str(run.latest().relative_to(run.path))
    return any(isinstance(event, ev.Saved) and event.path == newest for event in events)


def outcome(run: Run) -> dict[str, Any]:
    """Return everything in a finished run that does not depend on time, as the checkpoints of evaluations do."""
    folder = run.latest()
    weights = {file.name: file.read_bytes() for file in folder.glob("*.safetensors")}
    saved_state = json.loads((folder / "state.json").read_text("utf-8"))
    state = {key: value for key, value in saved_state.items() if key not in ("crc32", "seconds")}
    summary = run.summary()
    timeless = summary and summary.model_copy(update={"run": "", "tokens_per_s": None, "train_seconds": 0.0})
    recorded = list(run.events())
    assert run.downsampled().events() == recorded, "the downsampled log differs from the event log"
    return {
        "checkpoint": folder.name,
        "weights": weights,
        "state": state,
        "summary": timeless,
        "events": without_times(recorded),
        "temporaries": temporaries(run.path),
    }


def temporaries(path: Path) -> list[str]:
    """Return the temporary files that a killed writer left."""
    return sorted(str(file.relative_to(path)) for file in path.rglob(f"{TEMPORARY}*"))


def without_times(events: list[ev.Event]) -> list[dict[str, Any]]:
    """Return the events without times and without the signs of an interruption: a resumed start, an earlier end.

    Without the checkpoints too: whether an evaluation writes one depends on time.
    """
    kept: list[dict[str, Any]] = []
    for number, event in enumerate(events):
        resumed = isinstance(event, ev.Started) and event.resumed
        ended = isinstance(event, ev.Stopped) and number < len(events) - 1
        if not (resumed or ended or isinstance(event, ev.Saved)):
            kept.append(_without_times(event))
    return kept


def _without_times(event: ev.Event) -> dict[str, Any]:
    fields = event.to_json()
    fields.pop("time", None)
    if isinstance(event, ev.StepDone):
        fields |= {"seconds": 0.0, "tokens_per_s": 0.0}
        if event.data_seconds is not None:  # Whether the time was measured at all is compared.
            fields["data_seconds"] = 0.0
    return fields

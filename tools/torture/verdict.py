"""What a run folder must be: readable at every moment, and at the end as if nobody had ever been killed."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from tui_lab.core import events as ev
from tui_lab.core.inference.load_model import load_model
from tui_lab.core.runs.folder import Run
from tui_lab.core.training import checkpoint as ckpt
from tui_lab.util.files import TEMPORARY

TIMES = re.compile(r'"(crc32|seconds)": [^,]+,?')


def readable(run: Run) -> dict[str, int]:
    """Read every file of a run whose writer was killed; what was found. Raises what the lab raises."""
    run.config(), run.tokenizer(), run.downsampled(), run.summary()
    events = run.path / "events.jsonl"
    told = list(run.events())
    saved = list(run.checkpoints.glob("step-*"))
    for path in saved:
        ckpt.load(path)
    if saved:
        load_model(run)
    return {
        "torn_lines": int(events.exists() and not (events.read_bytes() or b"\n").endswith(b"\n")),
        "temporaries": len(list(run.path.rglob(f"{TEMPORARY}*"))),
        "two_checkpoints": int(len(saved) > 1),
        "no_checkpoint": int(not saved),
        "checkpoint_not_told": int(bool(saved) and not _told(told, run)),
    }


def _told(events: list[ev.Event], run: Run) -> bool:
    newest = str(run.latest().relative_to(run.path))
    return any(isinstance(event, ev.Saved) and event.path == newest for event in events)


def outcome(run: Run) -> dict[str, Any]:
    """All that a finished run has come to, without times."""
    [folder] = run.checkpoints.iterdir()
    weights = {file.name: file.read_bytes() for file in folder.glob("*.safetensors")}
    state = {key: value for key, value in json.loads((folder / "state.json").read_text("utf-8")).items()
             if key not in ("crc32", "seconds")}  # fmt: skip
    summary = run.summary()
    timeless = summary and summary.model_copy(update={"run": "", "tokens_per_s": None, "train_seconds": 0.0})
    told = list(run.events())
    assert run.downsampled().events() == told, "the digest tells another story than the record"
    return {"checkpoint": folder.name, "weights": weights, "state": state, "summary": timeless, "record": story(told),
            "left": left_over(run.path)}  # fmt: skip


def left_over(path: Path) -> list[str]:
    return sorted(str(found.relative_to(path)) for found in path.rglob(f"{TEMPORARY}*"))


def story(events: list[ev.Event]) -> list[ev.Event]:
    """The record without times and without the marks of an interruption: that it started again, and an end before."""
    kept: list[ev.Event] = []
    for number, event in enumerate(events):
        again = isinstance(event, ev.Started) and event.resumed
        ended = isinstance(event, ev.Stopped) and number < len(events) - 1
        if not (again or ended):
            kept.append(_timeless(event))
    return kept


def _timeless(event: ev.Event) -> ev.Event:
    if isinstance(event, ev.StepDone):
        # Whether the time was measured at all is part of the story.
        data = None if event.data_seconds is None else 0.0
        return replace(event, seconds=0.0, tokens_per_s=0.0, data_seconds=data)
    return event

"""Read a run from the trainer_state.json of Hugging Face's Trainer."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tui_lab.core import events as ev
from tui_lab.core.config.script import Captured
from tui_lab.core.runs.importing.columns import find_columns
from tui_lab.core.runs.importing.names import name_of
from tui_lab.core.runs.importing.source import TRAINER_STATE, ImportSource, Row
from tui_lab.util import files
from tui_lab.util.errors import DataError

STATE = "trainer_state.json"
LARGEST = 2**28
"""Bytes. A state is read whole; a hundred thousand logged steps take about 20 MB."""
OF_WHOLE_TRAINING = "train_runtime"
"""A key of the last record, whose train_loss is the mean of the whole training."""
SETTINGS = ("max_steps", "num_train_epochs", "train_batch_size", "logging_steps", "eval_steps", "save_steps")
"""Keys of the state that say how it was trained."""


def read_trainer_state(path: Path, given: Mapping[str, str]) -> list[ImportSource]:
    """Return the run in a trainer_state.json.

    given: columns by value, see `find_columns`. Raises ConfigError, DataError.
    """
    content, state = _read(path)
    history = state.get("log_history")
    if not isinstance(history, list) or not all(isinstance(record, dict) for record in history):
        raise DataError.of("invalid", f"not a {STATE}: it needs log_history, a list of records", key=str(path))
    numbers: dict[str, bool] = {}
    for record in history:
        for name, value in record.items():
            if name != "step" and OF_WHOLE_TRAINING not in record:
                numbers[name] = numbers.get(name, True) and _is_number(value)
    names = [name for name, is_number in numbers.items() if is_number]
    columns = dict(find_columns(names, given))
    planned = state.get("max_steps")
    source = ImportSource(
        path=path,
        format=TRAINER_STATE,
        name=name_of(path),
        columns={"step": "step", **columns},
        rows=partial(_rows, path, history, frozenset(columns.values())),
        sha256=hashlib.sha256(content).hexdigest(),
        created=path.stat().st_mtime,
        others=[name for name in names if name not in columns.values()],
        ignored=[name for name, is_number in numbers.items() if not is_number],
        planned_steps=planned if isinstance(planned, int) and 0 <= planned <= ev.LARGEST else 0,
        settings=_settings(state),
        has_interval_means=True,
    )
    return [source]


def _read(path: Path) -> tuple[bytes, dict[str, Any]]:
    try:
        text = files.read_text(path, LARGEST)
        # The Trainer writes NaN as such, which strict JSON does not have.
        state = json.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DataError.of("unreadable", f"not a {STATE}: {reason}", key=str(path)) from error
    if not isinstance(state, dict):
        raise DataError.of("invalid", f"not a {STATE}: it must be an object", key=str(path))
    return text.encode(), state


def _rows(path: Path, history: Sequence[Mapping[str, Any]], named: frozenset[str]) -> Iterator[Row]:
    for number, record in enumerate(history):
        place = f"record {number + 1} of log_history"
        step = record.get("step")
        if not isinstance(step, int) or isinstance(step, bool) or not 0 <= step <= ev.LARGEST:
            raise DataError.of("wrong_type", f"{place}: a step must be a whole number", key=f"{path}: step", value=step)
        values = {name: float(value) for name, value in record.items() if name != "step" and _is_number(value)}
        if OF_WHOLE_TRAINING in record:
            # Its losses are not those of this step.
            values = {f"logged/{name}": value for name, value in values.items() if name != "epoch"}
        yield Row(place, step, values)


def _settings(state: Mapping[str, Any]) -> dict[str, Captured]:
    values = {name: state.get(name) for name in SETTINGS}
    trial = state.get("trial_params")
    values |= trial if isinstance(trial, dict) else {}
    return {
        str(name): value
        for name, value in values.items()
        if isinstance(value, bool | int | float | str) and re.fullmatch(r"[\w.-]+", str(name))
    }


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)

"""What happens inside the model of a run on one example, from its checkpoint and its log."""

from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from tui_lab.core import events as ev
from tui_lab.core.commands import Replacement
from tui_lab.core.config.schema import Config
from tui_lab.core.examples.measure import OnProgress, no_progress
from tui_lab.core.examples.opened import checkpoints, task_of
from tui_lab.core.examples.selection import Part, part_of
from tui_lab.core.examples.shown import text_of
from tui_lab.core.inference.load_model import load_chosen
from tui_lab.core.inside.ablation import ablate
from tui_lab.core.inside.lens import logit_lens
from tui_lab.core.inside.norms import stream_norms
from tui_lab.core.inside.results import Ablation, LogitLens, StreamNorms
from tui_lab.core.runs.folder import Run
from tui_lab.data.tasks.reverse import to_xy
from tui_lab.data.tokenizers import Tokenizer
from tui_lab.util.errors import ConfigError

Ids = npt.NDArray[np.int64]
View = Literal["lens", "ablation", "norms", "layers"]
VIEWS: tuple[View, ...] = ("lens", "ablation", "norms", "layers")
DIGITS = 6
"""Significant digits of a number in JSON; float32 has about seven."""


@dataclass(frozen=True)
class InsideRequest:
    """What is asked.

    views: which of them. step: of the weights: the newest kept checkpoint at or before it; None for the newest. part,
    example: which example, unless `text` is given. others: further examples of the part for the ablation. how: to
    ablate.
    """

    views: tuple[View, ...] = VIEWS
    step: int | None = None
    part: Part = "val"
    example: int = 0
    text: str | None = None
    others: int = 3
    how: Replacement = "zero"


@dataclass(frozen=True)
class LayerValue:
    """A measurement of a layer while the run trained: the latest one, at `step`, and the least and largest of all."""

    step: int
    value: float
    least: float
    largest: float


@dataclass(frozen=True)
class InsideReport:
    """What was measured of one row of T tokens with the weights of `step`.

    part, example, offset: None for a text of the user. x, y: token ids [T], y -1 where the target is ignored. lens,
    ablation, norms: why there is none, as a sentence, or None if it was not asked for. layers: by measurement and
    layer; empty if the run recorded none up to `step`, None if it was not asked for.
    """

    run: str
    step: int
    part: Part | None
    example: int | None
    offset: int | None
    text: str
    x: tuple[int, ...]
    y: tuple[int, ...]
    lens: LogitLens | str | None = None
    ablation: Ablation | str | None = None
    norms: StreamNorms | str | None = None
    layers: dict[str, dict[str, LayerValue]] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON values: NaN is None, a view that is not available is {"unavailable": why}."""
        values = _json(self)
        for view in ("lens", "ablation", "norms"):
            if isinstance(values[view], str):
                values[view] = {"unavailable": values[view]}
        assert isinstance(values, dict)
        return values


@dataclass(frozen=True)
class _Rows:
    """The example, then the others: x, y [R, T]."""

    x: Ids
    y: Ids
    part: Part | None
    example: int | None
    offset: int | None


def inside_run(run: Run, request: InsideRequest, report: OnProgress = no_progress) -> InsideReport:
    """Look inside a run's model at one example. Raises ConfigError, DataError or RunError."""
    run.refuse_script(f"look inside while the script runs: tui-lab app {run.name}, then I")
    checkpoints(run, request.step)  # Raises RunError if there is none.
    chosen, model, tokenizer = load_chosen(run, "last", request.step)
    rows = _rows(run, chosen.config, request, tokenizer, report)
    x, y = rows.x, rows.y
    measurements: dict[View, Callable[[], Any]] = {
        "lens": lambda: logit_lens(model, x[0], y[0]),
        "ablation": lambda: ablate(model, x, y, request.how),
        "norms": lambda: stream_norms(model, x[0]),
        "layers": lambda: layers_until(run, chosen.step),
    }
    measured: dict[str, Any] = {}
    for number, view in enumerate(request.views):
        report(f"measuring: {view}", number, len(request.views))
        measured[view] = measurements[view]()
    return InsideReport(
        run.name,
        chosen.step,
        rows.part,
        rows.example,
        rows.offset,
        text_of(x[0], y[0], tokenizer),
        tuple(x[0].tolist()),
        tuple(y[0].tolist()),
        **measured,
    )


def _rows(run: Run, config: Config, request: InsideRequest, tokenizer: Tokenizer, report: OnProgress) -> _Rows:
    if request.text is not None:
        x, y = _xy_of_text(config, request.text, tokenizer)
        return _Rows(x[None], y[None], None, None, None)
    dataset, n_examples = part_of(task_of(run, config, report), request.part, config)
    if request.example >= n_examples:
        message = f"not an example of the {request.part} part"
        raise ConfigError.of(
            "invalid", message, key="--example", value=request.example, allowed=f"0 to {n_examples - 1:,}"
        )
    # Evenly spread over the part, so that windows of a text do not overlap.
    n_others = min(request.others, n_examples - 1)
    ids = (request.example + np.arange(1 + n_others, dtype=np.int64) * (n_examples // (1 + n_others))) % n_examples
    rows_x, rows_y = dataset.examples(ids)
    offsets = dataset.offsets(ids[:1])
    return _Rows(rows_x, rows_y, request.part, request.example, None if offsets is None else int(offsets[0]))


def _xy_of_text(config: Config, text: str, tokenizer: Tokenizer) -> tuple[Ids, Ids]:
    """Return x and y [T] of a text: the next tokens are the targets, or a row of digits is to be reversed."""
    ids = tokenizer.encode(text)
    if config.data.task == "reverse":
        length = config.data.length
        if len(ids) != length:
            raise ConfigError.of(
                "invalid", "not a row of this task", key="--text", value=text, allowed=f"{length} digits"
            )
        x, y = to_xy(ids[None])
        return x[0], y[0]
    context = config.model.context
    if not 2 <= len(ids) <= context + 1:
        allowed = f"2 to {context + 1:,} tokens, of which the last is only a target"
        raise ConfigError.of("invalid", f"has {len(ids):,} tokens", key="--text", value=text, allowed=allowed)
    return ids[:-1], ids[1:]


def layers_until(run: Run, step: int) -> dict[str, dict[str, LayerValue]]:
    """Return what the run recorded of each layer up to a step, by measurement and layer. Raises RunError."""
    layers: dict[str, dict[str, LayerValue]] = {}
    for event in run.downsampled().events():
        if not isinstance(event, ev.StepDone) or event.by_layer is None or event.step > step:
            continue
        for measurement, values in event.by_layer.items():
            of_measurement = layers.setdefault(measurement, {})
            for layer, value in values.items():
                before = of_measurement.get(layer)
                least = value if before is None else min(value, before.least)
                largest = value if before is None else max(value, before.largest)
                of_measurement[layer] = LayerValue(event.step, value, least, largest)
    return layers


def _json(value: Any) -> Any:
    """Return dataclasses as dictionaries and arrays as lists."""
    if is_dataclass(value):
        return {field.name: _json(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, dict):
        return {key: _json(each) for key, each in value.items()}
    if isinstance(value, np.ndarray):
        return _json(value.tolist())
    if isinstance(value, list | tuple):
        return [_json(each) for each in value]
    if isinstance(value, float):
        return None if value != value else float(f"{value:.{DIGITS}g}")
    return value

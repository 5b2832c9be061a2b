"""The events of an imported run, from the rows of its log."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from tui_lab.core import events as ev
from tui_lab.core.runs.importing.columns import Columns, Value, is_held_out
from tui_lab.core.runs.importing.source import ImportSource, Row
from tui_lab.core.training.loss_figures import LOSS_EMA, running_mean
from tui_lab.util.errors import DataError

BY_LAYER = ("grad_norm", "update_ratio", "dead_units")
LOGGED = "logged/"
"""What the names of logged values begin with in our own exports."""


def events_of(source: ImportSource) -> Iterator[ev.Event]:
    """Yield the events of a run, in bounded memory. Raises DataError for steps that go back, or values out of range.

    A row with a train loss is a step, and one with a validation loss an evaluation. Learning rates that are not known
    are NaN; tokens, seconds and the size of the model are 0.
    """
    yield ev.Started(
        step=0,
        steps=source.planned_steps,
        parameters=0,
        n_vocab=0,
        train_examples=0,
        val_examples=0,
        device="",
        threads=0,
        resumed=False,
        time=source.created,
    )
    builder = _Builder(source.columns, source.has_interval_means)
    last_step = 0
    for row in _joined(source):
        yield from builder.events(row)
        last_step = row.step
    if not builder.n_losses:
        columns = source.columns
        names = " and ".join(columns[value] for value in ("train_loss", "val_loss") if value in columns)
        raise DataError.of("missing", f"{names} has no value in any row", key=str(source.path))
    yield ev.Stopped(step=last_step, reason="imported", time=builder.time)


def _joined(source: ImportSource) -> Iterator[Row]:
    """Yield the rows, with those of the same step in one.

    The later value of a column counts, except of a train loss.
    """
    train_loss = source.columns.get("train_loss")
    joined: Row | None = None
    for row in source.rows():
        if joined is None:
            joined = row
        elif row.step < joined.step:
            raise _not_increasing(source, joined, row, "after")
        elif row.step > joined.step:
            yield joined
            joined = row
        elif train_loss in joined.values and train_loss in row.values:
            raise _not_increasing(source, joined, row, "again, with another train loss, after")
        else:
            joined = Row(row.place, row.step, {**joined.values, **row.values})
    if joined is not None:
        yield joined


def _not_increasing(source: ImportSource, before: Row, row: Row, how: str) -> DataError:
    column = source.columns.get("step", "the step")
    message = (
        f"{row.place}: step {row.step:,} {how} step {before.step:,} ({before.place}); the steps must increase. "
        "If this is the wrong column, name another with --column step=NAME, or count the rows with --number-rows"
    )
    return DataError.of("invalid", message, key=column)


@dataclass
class _Builder:
    """Makes the events of one row after another."""

    columns: Columns
    has_interval_means: bool = False
    n_losses: int = 0
    time: float | None = None
    """Of the last row, in seconds since 1970; None where the log has none."""
    _loss_ema: float = math.nan
    _last_step: int = 0
    _best: float = math.inf
    _since_best: int = 0
    _tokens: int = 0
    _elapsed: float | None = None
    _names: dict[str, Value] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._names = {name: value for value, name in self.columns.items()}

    def events(self, row: Row) -> Iterator[ev.Event]:
        """Yield the events of the row: a step, an evaluation, and what else was logged."""
        known = {self._names[name]: number for name, number in row.values.items() if name in self._names}
        others = {name: number for name, number in row.values.items() if name not in self._names}
        self.time = _time(known.get("timestamp"), self.time)
        with_step = dict[str, float]()
        if "train_loss" in known:
            with_step = {name: number for name, number in others.items() if _belongs_to_step(name)}
            yield self._step(row, known, with_step)
        if "val_loss" in known:
            yield self._evaluation(row.step, known)
        logged = {name.removeprefix(LOGGED): number for name, number in others.items() if name not in with_step}
        if "train_loss" not in known:
            logged |= {value: known[value] for value in ("lr", "grad_norm") if value in known}
        if logged:
            yield ev.Logged(step=row.step, values=logged)

    def _step(self, row: Row, known: Mapping[Value, float], others: Mapping[str, float]) -> ev.StepDone:
        self.n_losses += 1
        loss = known["train_loss"]
        tokens = _count(row, self.columns, "tokens", known.get("tokens", self._tokens))
        seconds = self._seconds(known)
        n_new = max(0, tokens - self._tokens)
        self._tokens = tokens
        self._loss_ema = known.get("loss_ema", self._next_ema(loss, row.step - self._last_step))
        self._last_step = row.step
        by_layer, extra = _split_by_layer(others)
        return ev.StepDone(
            step=row.step,
            loss=loss,
            loss_ema=self._loss_ema,
            lr=known.get("lr", math.nan),
            grad_norm=known.get("grad_norm"),
            epoch=max(0, int(_finite(known.get("epoch")))),
            tokens=tokens,
            seconds=seconds,
            tokens_per_s=known.get("tokens_per_s", n_new / seconds if seconds > 0 else 0.0),
            update_ratio=known.get("update_ratio"),
            dead_units=known.get("dead_units"),
            data_seconds=known.get("data_seconds"),
            extra=extra or None,
            by_layer=by_layer or None,
        )

    def _next_ema(self, loss: float, n_steps: int) -> float:
        """Return the weighted mean after `n_steps` more steps; a mean of these steps counts as often."""
        return running_mean(self._loss_ema, loss, LOSS_EMA**n_steps if self.has_interval_means else LOSS_EMA)

    def _seconds(self, known: Mapping[Value, float]) -> float:
        """Return the time of the step; 0 where it is not known, as of the first one."""
        if "seconds" in known:
            return max(0.0, _finite(known["seconds"]))
        now = known.get("elapsed", known.get("timestamp"))
        if now is None or not math.isfinite(now):
            return 0.0
        before = now if self._elapsed is None else self._elapsed
        self._elapsed = now
        return max(0.0, now - before)

    def _evaluation(self, step: int, known: Mapping[Value, float]) -> ev.Evaluated:
        self.n_losses += 1
        loss = known["val_loss"]
        is_best = loss < self._best
        self._best = min(self._best, loss) if loss == loss else self._best
        self._since_best = 0 if is_best else self._since_best + 1
        exact_match = known.get("exact_match")
        return ev.Evaluated(
            step=step,
            val_loss=loss,
            exact_match=exact_match,
            perplexity=known.get("perplexity") if exact_match is None else None,
            examples=max(0, int(_finite(known.get("examples")))),
            best=is_best,
            since_best=self._since_best,
            time=self.time,
        )


def _belongs_to_step(name: str) -> bool:
    return not name.startswith(LOGGED) and not is_held_out(name)


def _split_by_layer(values: Mapping[str, float]) -> tuple[dict[str, dict[str, float]], dict[str, float]]:
    """Return the measurements by layer, such as "grad_norm/layers.0", and the others."""
    by_layer: dict[str, dict[str, float]] = {}
    others: dict[str, float] = {}
    for name, number in values.items():
        kind, _, layer = name.partition("/")
        if kind in BY_LAYER and layer:
            by_layer.setdefault(kind, {})[layer] = number
        else:
            others[name] = number
    return by_layer, others


def _time(timestamp: float | None, before: float | None) -> float | None:
    return timestamp if timestamp is not None and 0 <= timestamp <= ev.LATEST else before


def _finite(number: float | None) -> float:
    return number if number is not None and math.isfinite(number) else 0.0


def _count(row: Row, columns: Columns, value: Value, number: float) -> int:
    """Return a number of things. Raises DataError where it is not one."""
    if not math.isfinite(number):
        return 0
    if not 0 <= number <= ev.LARGEST:
        raise DataError.of("invalid", f"{row.place}: must be a count", key=columns[value], value=number)
    return int(number)

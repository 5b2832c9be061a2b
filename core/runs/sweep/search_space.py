"""The search space of a sweep: keys with values to try or ranges to draw from, and the points they make."""

import itertools
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tui_lab.core.config import renamed, settings
from tui_lab.util.errors import ConfigError, Problem
from tui_lab.util.strict_json import dumps

# Optuna takes half a second to import, so only the functions that need it import it.
if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

Values = dict[str, Any]
"""A point: a value for each key."""
Scalar = None | bool | int | float | str
DRAWS_PER_POINT = 50
"""Draws at most for each point: a few discrete values have few combinations, which repeat."""
_NUMBER = r"([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)"
_RANGE = re.compile(rf"{_NUMBER}\.\.{_NUMBER}(:log)?")


@dataclass(frozen=True)
class ChoiceAxis:
    """A key with the values to try."""

    key: str
    values: tuple[Any, ...]

    @property
    def spec(self) -> list[Any]:
        """The axis in sweep.json and in a config's [sweep] table."""
        return list(self.values)

    def stored(self, value: Any) -> Scalar:
        """Return the value in Optuna's study: itself, or its JSON where values are lists or 1 and True both occur."""
        return value if self._plain else dumps(value)

    def distribution(self) -> "BaseDistribution":
        from optuna.distributions import CategoricalDistribution

        return CategoricalDistribution([self.stored(value) for value in self.values])

    def value(self, stored: Any) -> Any:
        """Undo `stored`."""
        return stored if self._plain else next(value for value in self.values if dumps(value) == stored)

    def at(self, share: float) -> Any:
        """Return the value of which a share (0 to 1, without 1) of the values come before it."""
        return self.values[int(share * len(self.values))]

    @property
    def _plain(self) -> bool:
        scalars = all(isinstance(value, Scalar) for value in self.values)
        return scalars and len(set(self.values)) == len(self.values)


@dataclass(frozen=True)
class RangeAxis:
    """A key whose values are drawn between two bounds, both included."""

    key: str
    low: float
    high: float
    log: bool = False

    @property
    def spec(self) -> str:
        return f"{self.low!r}..{self.high!r}{':log' if self.log else ''}"

    def stored(self, value: Any) -> Scalar:
        return float(value) if isinstance(self.low, float) else int(value)

    def distribution(self) -> "BaseDistribution":
        from optuna.distributions import FloatDistribution, IntDistribution

        if isinstance(self.low, float):
            return FloatDistribution(self.low, self.high, log=self.log)
        return IntDistribution(int(self.low), int(self.high), log=self.log)

    def value(self, stored: Any) -> Any:
        return stored

    def at(self, share: float) -> float | int:
        """Return the value below which a share (0 to 1) of the range lies. Whole numbers have equal shares of it."""
        is_whole = isinstance(self.low, int)
        margin = 0.5 if is_whole else 0.0
        low, high = (math.log(bound) if self.log else bound for bound in (self.low - margin, self.high + margin))
        between = low + share * (high - low)
        value = math.exp(between) if self.log else between
        # Rounding may lead out of the bounds.
        return min(max(round(value) if is_whole else value, self.low), self.high)


Axis = ChoiceAxis | RangeAxis


def parse_axis(text: str) -> Axis:
    """Parse KEY=V1,V2,… or KEY=LOW..HIGH[:log]. Raises ConfigError."""
    key, parts = key_and_values(text, example="optim.lr=0.01,0.001")
    return axis(key, parts if isinstance(parts, str) else [settings.parse_value(part) for part in parts])


def key_and_values(text: str, example: str) -> tuple[str, str | list[str]]:
    """Return the key of KEY=V1,V2,… with its values, or of KEY=LOW..HIGH[:log] with its range. Raises ConfigError.

    example: for the error.
    """
    key, equals, values = text.partition("=")
    if not equals or not key.strip() or not values.strip():
        raise ConfigError.of(
            "invalid", f"must be KEY=V1,V2,… or KEY=LOW..HIGH, as in {example}", key="--over", value=text
        )
    if ".." in values and not set(values) & set(",/\"'["):
        return key.strip(), values.strip()
    return key.strip(), split(values)


def axis(key: str, spec: Any) -> Axis:
    """Return the axis of a list of values or of the text of a range. Raises ConfigError."""
    key = renamed.current(key)
    if not settings.exists(key):
        raise ConfigError(settings.unknown_key(key))
    if isinstance(spec, str):
        return _range(key, spec)
    return choice_axis(key, spec)


def script_axis(key: str, spec: Any) -> Axis:
    """Return the axis of a script's value: of a list of values, or of the text of a range. Raises ConfigError.

    A range of whole numbers has bounds without a point or an exponent.
    """
    if isinstance(spec, str):
        has_whole_bounds = not set(spec.removesuffix(":log").replace("..", "")) & set(".eE")
        return range_axis(key, spec, is_whole=has_whole_bounds)
    return choice_axis(key, spec)


def choice_axis(key: str, spec: Any) -> ChoiceAxis:
    """Return the axis of a list of values. Raises ConfigError."""
    if not isinstance(spec, Sequence) or not spec:
        raise ConfigError.of("wrong_type", "must be a list of values, or a range as text", key=key, value=spec)
    values: list[str] = []
    for value in spec:
        text = dumps(value)
        if text in values:
            raise ConfigError.of("invalid", "is given twice; to repeat a point, use --seeds", key=key, value=value)
        values.append(text)
    return ChoiceAxis(key, tuple(spec))


def _range(key: str, text: str) -> RangeAxis:
    field = settings.fields().get(key)
    kind = None if field is None else field.annotation
    if kind not in (int, float):
        raise ConfigError.of(
            "wrong_type", "this setting has no range; list its values, as in V1,V2,…", key=key, value=text
        )
    return range_axis(key, text, is_whole=kind is int)


def range_axis(key: str, text: str, *, is_whole: bool) -> RangeAxis:
    """Return the axis of LOW..HIGH or LOW..HIGH:log, of whole numbers or not. Raises ConfigError."""
    match = _RANGE.fullmatch(text.strip())
    if match is None:
        example = "1..8" if is_whole else "1e-4..1e-1:log"
        raise ConfigError.of(
            "invalid", f"a range must be LOW..HIGH or LOW..HIGH:log, as in {key}={example}", key=key, value=text
        )
    low, high = float(match[1]), float(match[2])
    log = match[3] is not None
    if is_whole and not (low.is_integer() and high.is_integer()):
        raise ConfigError.of("wrong_type", "the bounds must be whole numbers", key=key, value=text)
    if low >= high or (log and low <= 0):
        positive = ", and above 0 for a logarithmic range" if log else ""
        raise ConfigError.of("invalid", f"the first bound must be less than the second{positive}", key=key, value=text)
    return RangeAxis(key, int(low), int(high), log) if is_whole else RangeAxis(key, low, high, log)


def split(text: str) -> list[str]:
    """Split `text` at the commas outside brackets and quotes."""
    parts = [""]
    depth = 0
    quote = ""
    for character in text:
        if quote:
            quote = "" if character == quote else quote
        elif character in "\"'":
            quote = character
        elif character in "[{(":
            depth += 1
        elif character in "]})":
            depth -= 1
        elif character == "," and depth == 0:
            parts.append("")
            continue
        parts[-1] += character
    return parts


def grid(axes: Sequence[Axis]) -> list[Values]:
    """Return every combination, the last key changing fastest. Raises ConfigError where an axis is a range."""
    ranges = [axis for axis in axes if isinstance(axis, RangeAxis)]
    if ranges:
        raise ConfigError(
            [
                Problem(
                    code="missing",
                    message="a range needs --random N, the number of draws",
                    key=axis.key,
                    value=axis.spec,
                )
                for axis in ranges
            ]
        )
    keys = [axis.key for axis in axes]
    return [dict(zip(keys, values, strict=True)) for values in itertools.product(*(axis.spec for axis in axes))]


def draw(axes: Sequence[Axis], n: int, seed: int) -> list[Values]:
    """Draw `n` different points; fewer where there are not so many.

    They are a Latin hypercube (McKay, Beckman and Conover, 1979): each of the `n` equal parts of every range has one.
    Where values repeat, points of further ones follow.
    """
    numbers = np.random.default_rng(seed)
    points: dict[str, Values] = {}
    for _ in range(DRAWS_PER_POINT):
        parts = np.stack([numbers.permutation(n) for _ in axes], axis=1) if axes else np.zeros((n, 0))
        for shares in ((parts + numbers.random(parts.shape)) / n).tolist():
            point = {axis.key: axis.at(share) for axis, share in zip(axes, shares, strict=True)}
            points.setdefault(dumps(point), point)
        if len(points) >= n:
            break
    return list(points.values())[:n]


def distributions(axes: Iterable[Axis]) -> "dict[str, BaseDistribution]":
    """Optuna's distribution for each key."""
    return {axis.key: axis.distribution() for axis in axes}


def short_names(keys: Iterable[str]) -> dict[str, str]:
    """Return a short name for each dotted key: its last part, unless another key has the same."""
    keys = list(keys)
    last_parts = [key.rpartition(".")[2] for key in keys]
    return {key: name if last_parts.count(name) == 1 else key for key, name in zip(keys, last_parts, strict=True)}


def label(values: Mapping[str, Any], names: Mapping[str, str] | None = None) -> str:
    """Return a point as text: "lr=0.01 dropout=0.1"."""
    names = names or short_names(values)
    return " ".join(f"{names[key]}={written(value)}" for key, value in values.items())


def written(value: Any) -> str:
    """Return a value as short text."""
    match value:
        case bool():
            return str(value).lower()
        case float():
            return repr(value) if len(repr(value)) <= 6 else f"{value:.4g}"
        case str() if value.isprintable():
            return value
        case _:
            return dumps(value).replace(" ", "")

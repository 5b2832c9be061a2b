"""What a sweep goes over: keys with values to try, or ranges to draw from, and the points that they make."""

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tui_lab.core.config import settings
from tui_lab.util.errors import ConfigError
from tui_lab.util.strict_json import dumps

# Optuna takes half a second to import: only what draws or describes distributions waits for it.
if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

Values = dict[str, Any]
"""One point: a value for each key."""
Scalar = None | bool | int | float | str
DRAWS_A_POINT = 50
"""Draws made at most for each point wanted: a few discrete values have few combinations."""
_NUMBER = r"([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)"
_RANGE = re.compile(rf"{_NUMBER}\.\.{_NUMBER}(:log)?")


@dataclass(frozen=True)
class Choices:
    """A key with the values to try."""

    key: str
    values: tuple[Any, ...]

    @property
    def spec(self) -> list[Any]:
        """As sweep.json and a config's [sweep] table have it."""
        return list(self.values)

    def stored(self, value: Any) -> Scalar:
        """What Optuna is told: the value, or its JSON where values are lists or equal ones differ in kind."""
        return value if self._plain else dumps(value)

    def distribution(self) -> "BaseDistribution":
        from optuna.distributions import CategoricalDistribution

        return CategoricalDistribution([self.stored(value) for value in self.values])

    def value(self, stored: Any) -> Any:
        """Undo `stored`."""
        return stored if self._plain else next(value for value in self.values if dumps(value) == stored)

    @property
    def _plain(self) -> bool:
        scalars = all(isinstance(value, Scalar) for value in self.values)
        return scalars and len(set(self.values)) == len(self.values)


@dataclass(frozen=True)
class Range:
    """A key to be drawn between two bounds, both included."""

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


Axis = Choices | Range


def parse_axis(text: str) -> Axis:
    """KEY=V1,V2,… or KEY=LOW..HIGH[:log]. Raises ConfigError."""
    key, equals, values = text.partition("=")
    if not equals or not values.strip():
        raise ConfigError([f"--over {text!r}: write KEY=V1,V2,… or KEY=LOW..HIGH, as in optim.lr=0.01,0.001"])
    if ".." in values and not set(values) & set(",/\"'["):
        return axis(key.strip(), values.strip())
    return axis(key.strip(), [settings.parse_value(part) for part in split(values)])


def axis(key: str, spec: Any) -> Axis:
    """The axis of a list of values, or of the text of a range. Raises ConfigError."""
    if key not in settings.fields():
        raise ConfigError([settings.unknown_key(key)])
    if isinstance(spec, str):
        return _range(key, spec)
    if not isinstance(spec, Sequence) or not spec:
        raise ConfigError([f"sweep over {key} = {spec!r}: allowed is a list of values, or a range as text"])
    seen: list[str] = []
    for value in spec:
        if (told := dumps(value)) in seen:
            raise ConfigError([f"sweep over {key}: {value!r} is there twice; train.seed is for repeating a point"])
        seen.append(told)
    return Choices(key, tuple(spec))


def _range(key: str, text: str) -> Range:
    found, kind = _RANGE.fullmatch(text.strip()), settings.fields()[key].annotation
    if kind not in (int, float):
        raise ConfigError([f"sweep over {key} = {text}: it has no range; give its values, as V1,V2,…"])
    if found is None:
        example = "1..8" if kind is int else "1e-4..1e-1:log"
        raise ConfigError(
            [f"sweep over {key} = {text!r}: a range is LOW..HIGH or LOW..HIGH:log, as in {key}={example}"]
        )
    low, high, log = float(found[1]), float(found[2]), found[3] is not None
    if kind is int and not (low.is_integer() and high.is_integer()):
        raise ConfigError([f"sweep over {key} = {text}: it takes whole numbers, so its range has whole ends"])
    if low >= high or (log and low <= 0):
        need = " and above 0, since it is logarithmic" if log else ""
        raise ConfigError([f"sweep over {key} = {text}: the first end must be below the second{need}"])
    return Range(key, low, high, log) if kind is float else Range(key, int(low), int(high), log)


def split(text: str) -> list[str]:
    """The parts between commas that stand in no brackets and no quotes."""
    parts, depth, quote = [""], 0, ""
    for character in text:
        if quote:
            quote = "" if character == quote else quote
        elif character in "\"'":
            quote = character
        elif character in "[{":
            depth += 1
        elif character in "]}":
            depth -= 1
        elif character == "," and depth == 0:
            parts.append("")
            continue
        parts[-1] += character
    return parts


def grid(axes: Sequence[Axis]) -> list[Values]:
    """Every combination, the last key changing fastest. Raises ConfigError where an axis is a range."""
    ranges = [axis.key for axis in axes if isinstance(axis, Range)]
    if ranges:
        raise ConfigError([f"sweep over {key}: a range is drawn from; say how often by --random N" for key in ranges])
    keys = [axis.key for axis in axes]
    return [dict(zip(keys, found, strict=True)) for found in itertools.product(*(axis.spec for axis in axes))]


def draw(axes: Sequence[Axis], n: int, seed: int) -> list[Values]:
    """`n` different points drawn by Optuna's RandomSampler; fewer where there are no more."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    spaces = distributions(axes)
    found: dict[str, Values] = {}
    for _ in range(n * DRAWS_A_POINT):
        if len(found) == n:
            break
        params = study.ask(spaces).params
        point = {axis.key: axis.value(params[axis.key]) for axis in axes}
        found.setdefault(dumps(point), point)
    return list(found.values())


def distributions(axes: Iterable[Axis]) -> "dict[str, BaseDistribution]":
    return {axis.key: axis.distribution() for axis in axes}


def short_names(keys: Iterable[str]) -> dict[str, str]:
    """Each dotted key by its last part, where no other key has the same."""
    keys = list(keys)
    last = [key.rpartition(".")[2] for key in keys]
    return {key: name if last.count(name) == 1 else key for key, name in zip(keys, last, strict=True)}


def label(values: Mapping[str, Any], names: Mapping[str, str] | None = None) -> str:
    """A point in words: "lr=0.01 dropout=0.1"."""
    names = names or short_names(values)
    return " ".join(f"{names[key]}={written(value)}" for key, value in values.items())


def written(value: Any) -> str:
    """A value as short as it can be read."""
    match value:
        case bool():
            return str(value).lower()
        case float():
            return repr(value) if len(repr(value)) <= 6 else f"{value:.4g}"
        case str() if value.isprintable():
            return value
        case _:
            return dumps(value).replace(" ", "")

"""Does a causal network of series look ahead through a norm or mean over time?

Whether a network of float series is meant to be causal is seen in its structure: with the statistics of its norms held
constant, no output depends on later inputs, though it depends on earlier ones. If outputs depend on later inputs as
soon as the statistics are computed, they carry the future. Networks that see both sides on purpose do so either way.
Cost: some passes for each of a few positions.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from tui_lab.core.doctor.findings import Finding, NotApplicable
from tui_lab.core.doctor.loop.lines import user_line
from tui_lab.core.doctor.measures.inputs import inputs_of
from tui_lab.core.doctor.measures.no_dropout import without_dropout
from tui_lab.core.doctor.program.batch import with_tensor
from tui_lab.core.doctor.program.nested import tensors_of
from tui_lab.core.doctor.program.target import Target

MIN_LENGTH = 8
N_PLACES = 6
TOLERANCE = 1e-5
"""Of the largest effect. No dependency: 0 to 1e-7; statistics over 48 steps: 0.01 to 0.3."""
_AFFINE = {"group_norm": 2, "layer_norm": 2, "instance_norm": 3}
"""Where the arguments of a norm hold its weight; the bias follows."""
_POOLS = frozenset(("adaptive_avg_pool1d", "adaptive_max_pool1d"))
_MEANS = frozenset(("mean", "std", "var", "std_mean", "var_mean", *_POOLS))


@dataclass(frozen=True, eq=False)
class _Series:
    """The input of a batch, and the axes of time of the input and the output."""

    x: Tensor
    x_axis: int
    output_axis: int


def check(target: Target) -> Iterator[Finding]:
    if target.tokens is not None:
        raise NotApplicable("the model reads token ids")
    with target.evaluating(), torch.no_grad(), without_dropout():
        output = _output(target, target.probe.batch)
        series = None if output is None else _series(target.probe.batch, output)
        if output is None or series is None:
            raise NotApplicable("the model does not map a float series to one of the same length")
        yield from _judged(target, series)


def _output(target: Target, batch: Any) -> Tensor | None:
    tensors = tensors_of(target.output(batch))
    return next((tensor.float() for tensor in tensors if tensor.is_floating_point() and tensor.dim() > 1), None)


def _series(batch: Any, output: Tensor) -> _Series | None:
    """Return the first float input that shares one length with the output, if it is the only such axis of both."""
    for x in tensors_of(inputs_of(batch)):
        if not x.is_floating_point() or x.dim() not in (2, 3) or output.dim() not in (2, 3) or len(x) != len(output):
            continue
        axes = [
            (i, j)
            for i in range(1, x.dim())
            for j in range(1, output.dim())
            if x.shape[i] == output.shape[j] >= MIN_LENGTH
        ]
        if len(axes) == 1 and (x.dim() == 3 or output.dim() == 2):
            return _Series(x, *axes[0])
    return None


def _judged(target: Target, series: _Series) -> Iterator[Finding]:
    future, _ = _effects(target, series, None)
    if future <= TOLERANCE:
        return
    with _Statistics() as statistics:
        target.output(target.probe.batch)
    frozen_future, frozen_past = _effects(target, series, statistics)
    if not statistics.values or frozen_future > TOLERANCE or frozen_past <= TOLERANCE:
        return  # It sees both sides on purpose, or does not look back either.
    for number, name in enumerate(statistics.names):
        share, _ = _effects(target, series, statistics.without(number))
        if share > TOLERANCE:
            yield _finding(name, statistics.lines[number], share)
            return


def _effects(target: Target, series: _Series, statistics: "_Statistics | None") -> tuple[float, float]:
    """Return how much outputs change with later and with earlier inputs, as fractions of the largest change."""
    x = series.x
    length = series.x.shape[series.x_axis]
    generator = torch.Generator().manual_seed(target.seed)
    later, earlier, largest = 0.0, 0.0, 1e-30
    before = _with(target, series, x, statistics)
    for place in torch.linspace(1, length - 2, N_PLACES).long().tolist():
        other = x.clone()
        part = other.select(series.x_axis, place)
        part += x.std() * torch.randn(part.shape, generator=generator).to(x)
        change = (_with(target, series, other, statistics) - before).abs().nan_to_num(0.0)
        by_time = change.movedim(series.output_axis, 0).flatten(1).amax(dim=1)
        largest = max(largest, float(by_time.max()))
        later = max(later, float(by_time[:place].max()))
        earlier = max(earlier, float(by_time[place + 1 :].max()))
    return later / largest, earlier / largest


def _with(target: Target, series: _Series, x: Tensor, statistics: "_Statistics | None") -> Tensor:
    batch = with_tensor(target.probe.batch, series.x, x)
    if statistics is None:
        output = _output(target, batch)
    else:
        with statistics.replayed():
            output = _output(target, batch)
    assert output is not None
    return output


class _Statistics(TorchFunctionMode):
    """Keeps the statistics of the norms and means of a pass, and uses them again in later ones."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self.lines: list[str] = []
        self.values: list[Any] = []
        self.computed: frozenset[int] = frozenset()
        """Numbers of those that are computed again."""
        self._next: int | None = None

    def replayed(self) -> "_Statistics":
        """Return one that uses the statistics in their order."""
        other = self.without(None)
        other._next = 0
        return other

    def without(self, number: int | None) -> "_Statistics":
        """Return one that computes those of one call again."""
        other = _Statistics()
        other.names = self.names
        other.lines = self.lines
        other.values = self.values
        other.computed = self.computed if number is None else frozenset({number})
        return other

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name not in _AFFINE and name not in _MEANS:
            return func(*args, **kwargs)
        x = args[0] if args else kwargs["input"]
        norm = _grouped(name, x, args, kwargs) if name in _AFFINE else None
        number = self._next
        values = None
        if number is not None:
            self._next = number + 1
            values = self.values[number] if number < len(self.values) and number not in self.computed else None
            if values is None:
                return func(*args, **kwargs)
        else:
            self.names.append(name)
            self.lines.append(user_line())
        if norm is None:
            result = func(*args, **kwargs) if values is None else values
            self.values += [result] if number is None else []
            return result
        own_statistics = (norm.mean(dim=-1, keepdim=True), norm.var(dim=-1, keepdim=True, correction=0))
        self.values += [own_statistics] if number is None else []
        mean, variance = values or own_statistics
        return _affine(name, ((norm - mean) / (variance + 1e-5).sqrt()).view_as(x), args, kwargs)


def _grouped(name: str, x: Tensor, args: Any, kwargs: Any) -> Tensor:
    """Return x with what is normalized together along the last axis."""
    if name == "group_norm":
        groups = kwargs.get("num_groups", args[1] if len(args) > 1 else 1)
        return x.reshape(len(x), groups, -1)
    if name == "instance_norm":
        return x.flatten(2)
    shape = kwargs.get("normalized_shape", args[1] if len(args) > 1 else x.shape[-1:])
    return x.flatten(x.dim() - len(shape))


def _affine(name: str, x: Tensor, args: Any, kwargs: Any) -> Tensor:
    """Return the normalized x times the weight plus the bias of a norm's arguments."""
    place = _AFFINE[name]
    weight = kwargs.get("weight", args[place] if len(args) > place else None)
    bias = kwargs.get("bias", args[place + 1] if len(args) > place + 1 else None)

    def shape(t: Tensor) -> Tensor:
        return t if name == "layer_norm" else t.view(-1, *[1] * (x.dim() - 2))

    x = x if weight is None else x * shape(weight)
    return x if bias is None else x + shape(bias)


def _finding(name: str, location: str, share: float) -> Finding:
    what = name.replace("_", " ")
    return Finding(
        code="norm_axis" if name in _AFFINE else "causal_leak",
        title=f"A {what} over time lets each step of a causal network see later ones.",
        evidence=f"an output changes with later inputs by {share:.2g} of the largest change; with the statistics of "
        "all norms held constant, it depends on earlier inputs only",
        why="The network reads a part of the answer from the rest of the series, which does not exist yet when it "
        "predicts.",
        fix="Normalize each step by itself, over the channels only: nn.LayerNorm on [B, T, C].",
        # A mean of the whole window is not a leak where the targets lie after it.
        kind="finding" if name in _AFFINE else "hint",
        location=location,
    )

"""What is known of the tensors of a forward pass, and how operations carry it on."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from tui_lab.core.doctor.measures.operations import NORMS, SCALINGS


@dataclass(eq=False)
class Product:
    """q kᵀ: both operands with the axes [..., queries or keys, d].

    factor: what it is multiplied by; None: unknown. query_positions: of the queries, [..., queries]; None: unknown.
    is_projected, is_own: as in AttentionCall.
    """

    query: Tensor
    key: Tensor
    factor: float | None
    location: str
    query_positions: Tensor | None
    is_projected: bool
    is_own: bool


@dataclass(eq=False)
class Softmax:
    """A softmax over scores that come from a product q kᵀ."""

    output: Tensor
    scores: Tensor
    location: str


@dataclass(eq=False)
class Tag:
    """What is known of a tensor.

    tensor: kept alive, so that its id stays its own.
    factor: the constant that it was multiplied by since its last matrix product; None: unknown.
    positions: the position that each element comes from, with the tensor's shape; None: unknown.
    layout, layout_location: the last operation that moved its elements, and the line of the user's code.
    """

    tensor: Tensor
    factor: float | None = 1.0
    positions: Tensor | None = None
    origin: tuple[int, int] = (0, 0)
    """The rows and positions that `positions` counts: row · n_positions + position."""
    product: Product | None = None
    softmax: Softmax | None = None
    is_weight: bool = False
    layout: str = ""
    layout_location: str = ""
    is_projected: bool = False
    """Whether it comes from a linear map, without a softmax or product of two activations since."""


class Tags:
    """The tags of all tensors of a pass, by their ids."""

    def __init__(self) -> None:
        self._by_id: dict[int, Tag] = {}

    def of(self, value: Any) -> Tag | None:
        """Return the tag of a value; None if it has none."""
        tag = self._by_id.get(id(value)) if isinstance(value, Tensor) else None
        return tag if tag is not None and tag.tensor is value else None

    def keep(self, tag: Tag) -> None:
        """Store a tag for its tensor."""
        self._by_id[id(tag.tensor)] = tag

    def is_weight(self, value: Any) -> bool:
        """Return whether a value is a parameter, or was computed from parameters alone."""
        if not isinstance(value, Tensor):
            return False
        tag = self.of(value)
        return isinstance(value, nn.Parameter) or isinstance(value._base, nn.Parameter) or bool(tag and tag.is_weight)

    def moved_positions(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Return the positions after a layout operation, or None if they are unknown for one of its tensors."""

        def positions(value: Any) -> Any:
            if isinstance(value, list | tuple):
                return type(value)(positions(each) for each in value)
            if isinstance(value, Tensor) and value.is_floating_point():
                tag = self.of(value)
                if tag is None or tag.positions is None:
                    raise LookupError
                return tag.positions
            return value

        # Positions are expanded, so a view of them may not be possible where one of the tensor is.
        func = Tensor.reshape if func is Tensor.view else func
        try:
            return func(*positions(tuple(args)), **{key: positions(value) for key, value in kwargs.items()})
        except (LookupError, RuntimeError, TypeError):
            return None

    def factor_after(self, name: str, args: Any, tag: Tag) -> float | None:
        """Return the factor of a tensor after an operation with it."""
        if name in NORMS or name == "normalize":
            return None
        if name not in SCALINGS or tag.factor is None:
            return tag.factor
        others = [each for each in args if each is not tag.tensor]
        other = others[0] if others else None
        if isinstance(other, Tensor) and self.is_weight(other):
            return None
        if isinstance(other, Tensor) and other.numel() != 1:
            return tag.factor
        number = abs(float(other)) if isinstance(other, int | float | Tensor) else 1.0
        if SCALINGS[name] == "multiply":
            return tag.factor * number
        return tag.factor / number if args[0] is tag.tensor and number else None


def tensors_in(args: Any, kwargs: Any) -> Iterator[Tensor]:
    """Yield the tensors of a call, also those in its lists."""
    for value in (*args, *kwargs.values()):
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from tensors_in(value, {})


def moved_softmax(func: Any, args: Any, kwargs: Any, tag: Tag) -> Softmax | None:
    """Return the softmax of a tag with its tensors moved as the tag's own tensor is."""
    softmax = tag.softmax
    if softmax is None or softmax.output.shape != tag.tensor.shape:
        return softmax
    if not any(value is tag.tensor for value in (*args, *kwargs.values())):
        return softmax

    def moved(tensor: Tensor) -> Tensor:
        moved_kwargs = {key: tensor if value is tag.tensor else value for key, value in kwargs.items()}
        result: Tensor = func(*(tensor if value is tag.tensor else value for value in args), **moved_kwargs)
        return result

    try:
        return Softmax(moved(softmax.output), moved(softmax.scores), softmax.location)
    except (RuntimeError, TypeError):
        return softmax

"""The hidden state that a recurrent model takes with its tokens: seen in a call of the script, and fresh for a row.

A fresh state for all tokens so far gives the same logits as a state that is carried from token to token.
"""

import contextlib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tui_lab.util.errors import ConfigError

MAKERS = ("init_hidden", "initHidden", "init_state", "get_initial_state")
"""Usual names of a model's method that returns the first state, given the number of rows."""
Shapes = torch.Size | tuple["Shapes", ...]
"""Of one tensor, or of each part of a tuple of them, as an LSTM's (h, c)."""


@dataclass(frozen=True)
class HiddenState:
    """place: the position or name of the argument. dtype: of its tensors. batch: the shape of the ids beside it."""

    place: int | str
    shapes: Shapes
    dtype: torch.dtype
    batch: tuple[int, int]

    def fresh(self, model: nn.Module, *, time_first: bool) -> Any:
        """Return the state before the first token of one row: of the model's own method, or zeros."""
        n_rows = self.batch[1 if time_first else 0]
        shapes = _for_one_row(self.shapes, n_rows)
        for maker in [getattr(model, name, None) for name in MAKERS]:
            if callable(maker):
                with contextlib.suppress(Exception):  # It may take something else.
                    state = maker(1)
                    if shapes_of(state) == shapes:
                        return state
        return _zeros(shapes, self.dtype, next(model.parameters()).device)

    def without_state(self, model: nn.Module, output: Any, state: Any) -> Any:
        """Return the output without the new state, of the same shapes as `state`.

        Raises ConfigError if there is none: then the argument was something else, such as a mask.
        """
        parts = list(output.values()) if isinstance(output, Mapping) else output
        parts = parts if isinstance(parts, tuple | list) else []
        shapes = shapes_of(state)
        states = [i for i, part in enumerate(parts) if shapes_of(part) == shapes]
        if not states:
            message = (
                f"its argument {self._name(model)} is not a hidden state, since it returns no new one; text cannot "
                "be generated with it"
            )
            raise ConfigError.of("user_code", message, key="model")
        return [part for i, part in enumerate(parts) if i != states[-1]]

    def failed(self, model: nn.Module, error: Exception) -> ConfigError:
        """Return what to say of a call with a fresh state that failed."""
        name = self._name(model)
        message = f"it fails with a fresh hidden state for its argument {name}: {type(error).__name__}: {error}"
        return ConfigError.of("user_code", message, key="model")

    def _name(self, model: nn.Module) -> str:
        if isinstance(self.place, str):
            return self.place
        names = list(inspect.signature(model.forward).parameters)
        return names[self.place] if self.place < len(names) else str(self.place + 1)


def hidden_state(args: tuple[Any, ...], kwargs: Mapping[str, Any], x: Tensor) -> HiddenState | None:
    """Return the hidden state among the arguments of a call with ids `x`, [B, T] or [T, B].

    None if none or several may be.
    """
    places: list[tuple[int | str, Any]] = [*enumerate(args), *kwargs.items()]
    states = [(place, value) for place, value in places if value is not x and shapes_of(value) is not None]
    if len(states) != 1 or x.dim() != 2:
        return None
    place, value = states[0]
    shapes = shapes_of(value)
    assert shapes is not None
    return HiddenState(place, shapes, _first_tensor(value).dtype, (int(x.shape[0]), int(x.shape[1])))


def shapes_of(value: Any) -> Shapes | None:
    """Return the shapes of a state.

    None for anything else than real tensors, with several dimensions, or tuples of them.
    """
    if isinstance(value, Tensor):
        return value.shape if value.is_floating_point() and value.dim() > 1 else None
    if type(value) not in (tuple, list) or not value:
        return None
    parts = [shapes for part in value if (shapes := shapes_of(part)) is not None]
    return tuple(parts) if len(parts) == len(value) else None


def _first_tensor(value: Any) -> Tensor:
    while not isinstance(value, Tensor):
        value = value[0]
    return value


def _for_one_row(shapes: Shapes, n_rows: int) -> Shapes:
    """Return the shapes with one row: of a tensor [layers, B, d] or [B, d]."""
    if not isinstance(shapes, torch.Size):
        return tuple(_for_one_row(part, n_rows) for part in shapes)
    usual = 1 if len(shapes) > 2 else 0
    axes = sorted((axis for axis, n in enumerate(shapes) if n == n_rows), key=lambda axis: axis != usual)
    return torch.Size(1 if axis in axes[:1] else n for axis, n in enumerate(shapes))


def _zeros(shapes: Shapes, dtype: torch.dtype, device: torch.device) -> Any:
    if isinstance(shapes, torch.Size):
        return torch.zeros(shapes, dtype=dtype, device=device)
    return tuple(_zeros(part, dtype, device) for part in shapes)

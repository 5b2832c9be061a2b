"""Checks of a forward pass's operations: do they keep the positions and rows of the batch apart?

Each writes what it finds into the record of the pass, with the line of the user's code.
"""

from typing import Any

import torch
from torch import Tensor

from tui_lab.core.doctor.loop.lines import user_line
from tui_lab.core.doctor.measures.attention_record import AttentionRecord, Mix, MixKind
from tui_lab.core.doctor.measures.module_stack import ModuleStack
from tui_lab.core.doctor.measures.operations import NORMS, REDUCTIONS, RESHAPES, reduced_dims
from tui_lab.core.doctor.measures.position_numbers import heads_differ, is_constant, is_grid, varies
from tui_lab.core.doctor.measures.tensor_tags import Tag, Tags


class PositionChecks:
    """Checks the operations of one forward pass.

    x: the token ids of the pass, int64 [B, T], if they are known. modules: those that are running.
    """

    def __init__(self, record: AttentionRecord, tags: Tags, modules: ModuleStack, x: Tensor | None) -> None:
        self._record = record
        self._tags = tags
        self._modules = modules
        self._x = x

    def looked_up(self, ids: Tensor) -> None:
        """Record that ids other than the tokens are equal at every position."""
        T = self._x.shape[-1] if self._x is not None else 0
        is_own = self._x is not None and ids.shape == self._x.shape and torch.equal(ids, self._x)
        if T > 1 and not is_own and ids.dim() and ids.shape[-1] == T and bool((ids == ids[..., :1]).all()):
            self._record.constant_ids = self._record.constant_ids or user_line() or self._modules.innermost or "?"

    def angle(self, angle: Tensor) -> None:
        """Record that an angle, of which a sine or cosine is computed, is equal along the axis of positions."""
        T = self._x.shape[-1] if self._x is not None else 0
        axes = [axis for axis, size in enumerate(angle.shape) if size == T and T > 1]
        if len(axes) == 1 and bool((angle == angle.narrow(axes[0], 0, 1)).all()):
            self._record.same_angle = self._record.same_angle or user_line() or self._modules.innermost or "?"

    def vectors(self, value: Tensor) -> None:
        """Record a reshape that puts several positions into one vector, or exchanges rows and positions."""
        tag = self._tags.of(value)
        if tag is None or tag.positions is None or tag.origin[0] * tag.origin[1] <= 1:
            return
        if not is_constant(tag.positions):
            B, T = tag.origin
            over_rows = not is_constant(tag.positions // T)
            is_proven = tuple(value.shape[:-1]) == (B, T) and tag.layout in RESHAPES and not over_rows
            self.add("heads_merged", "a reshape", tag.layout_location, over_rows=over_rows, is_proven=is_proven)
        elif value.dim() == 3 and not is_grid(tag.positions[..., 0], tag.origin[1]):
            self.add("batch_and_time", "a reshape", tag.layout_location, over_rows=True)

    def heads(self, tag: Tag | None, positions: Tensor | None) -> None:
        """Record that the vectors of one head do not come from different positions of one row."""
        if tag is None or positions is None or positions.dim() < 1 or positions.shape[-1] < 2:
            return
        first = positions.flatten(0, -2)[0] if positions.dim() > 1 else positions
        rows = first // max(tag.origin[1], 1)
        over_rows = bool((rows != rows[0]).any())
        if len(torch.unique(first)) < len(first) or over_rows:
            is_proven = not over_rows and tag.layout in RESHAPES and heads_differ(positions, tag.origin[1])
            self.add("heads_split", "a reshape", tag.layout_location, over_rows=over_rows, is_proven=is_proven)

    def rotation(self, tag: Tag, factors: Tensor) -> None:
        """Record that vectors of heads are multiplied by factors that differ along another axis than the positions."""
        positions = tag.positions
        T = tag.origin[1]
        factor_tag = self._tags.of(factors)
        if not tag.is_projected or positions is None or positions.dim() < 4 or factors.dim() < 2:
            return
        if self._tags.is_weight(factors) or (factor_tag is not None and factor_tag.positions is not None):
            return
        try:
            factors = factors.expand(positions.shape)
        except RuntimeError:
            return
        times, rows = positions % T, positions // T
        axes = range(positions.dim() - 1)
        if any(varies(factors, axis) and varies(times, axis) for axis in axes):
            return
        axis = next((axis for axis in axes if varies(factors, axis)), None)
        if axis is not None and not self._record.turned_over:
            self._record.turned_over = "rows of the batch" if varies(rows, axis) else "heads"
            self._record.turned_location = user_line()

    def batch_norm(self, args: Any, kwargs: Any) -> None:
        """Record a batch norm that uses the means of the batch."""
        if kwargs.get("training", args[5] if len(args) > 5 else False):
            self._record.mixes.append(Mix("norm", "batch norm", self._modules.innermost, user_line(), over_rows=True))

    def mean(self, name: str, args: Any, kwargs: Any) -> None:
        """Record a norm or another reduction, the function `name` of torch, over an axis of positions or rows."""
        if name not in NORMS and name not in REDUCTIONS:
            return
        value = args[0] if args else kwargs.get("input")
        tag = self._tags.of(value)
        if tag is None or tag.positions is None or tag.product is not None:
            return
        dims = reduced_dims(name, args, kwargs, value.dim())
        if not dims:
            return
        positions = tag.positions
        if bool((positions.amax(dims) == positions.amin(dims)).all()):
            return
        rows = positions // max(tag.origin[1], 1)
        over_rows = not bool((rows.amax(dims) == rows.amin(dims)).all())
        is_norm = name in NORMS or name in ("var", "std", "var_mean", "std_mean", "norm", "vector_norm")
        is_norm = is_norm or "norm" in self._modules.innermost_class.lower()
        operation = name.removesuffix("_").replace("_", " ") + (f" over axis {dims[0]}" if len(dims) == 1 else "")
        kind: MixKind = "norm" if is_norm else "reduction"
        self._record.mixes.append(Mix(kind, operation, self._modules.innermost, user_line(), over_rows=over_rows))

    def add(self, kind: MixKind, operation: str, location: str, *, over_rows: bool, is_proven: bool = False) -> None:
        """Record an operation that mixes positions or rows, once per line."""
        mix = Mix(kind, operation, self._modules.innermost, location, over_rows, is_proven)
        if not any((m.kind, m.location) == (kind, location) for m in self._record.mixes):
            self._record.mixes.append(mix)

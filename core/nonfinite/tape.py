"""Follows every operation of torch, and links those whose result is not finite to where their bad inputs come from."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tui_lab.core.nonfinite.causes import cause_of
from tui_lab.core.nonfinite.places import Places
from tui_lab.core.nonfinite.ranges import has_values, is_finite, kinds, range_of
from tui_lab.core.nonfinite.record import Cause, Kind, TensorRange
from tui_lab.core.nonfinite.rows import RowFinder, Rows, key_of

_UNINITIALIZED = ("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "empty_permuted")
MAX_INPUTS = 4
"""Inputs of an operation whose ranges are kept."""
_SUMS = ("sum", "embedding_dense_backward")
_PRODUCTS = {"mm": (0, 1), "addmm": (1, 2), "_linear_pointwise": (0, 1)}
"""Operations, and which of their arguments are multiplied."""


@dataclass(frozen=True)
class Birth:
    """Where non-finite values came to be. module: its name and class."""

    module: tuple[str, str]
    parameter: str
    kind: Kind
    cause: Cause
    operation: str = ""
    node: str = ""
    inputs: tuple[TensorRange, ...] = ()
    output: TensorRange | None = None
    rows: Rows | None = None
    line: str = ""
    is_backward: bool = False


@dataclass(frozen=True)
class BadResult:
    """A result that is not finite. number: in the order of operations; parents: its inputs that are not finite.

    is_on_purpose: it only passes on infinities that the model put in, such as those of a mask. birth: unless a parent
    explains it.
    """

    number: int
    kinds: frozenset[Kind]
    parents: tuple["BadResult", ...] = ()
    is_on_purpose: bool = False
    birth: Birth | None = None

    def first_birth(self) -> Birth:
        """Return the earliest birth that it comes from, one that is on purpose only if there is no other."""
        seen: set[int] = set()
        births: list[tuple[bool, int, Birth]] = []
        waiting = [self]
        while waiting:
            result = waiting.pop()
            if result.number in seen:
                continue
            seen.add(result.number)
            if result.birth is not None:
                births.append((result.is_on_purpose, result.number, result.birth))
            waiting += result.parents
        return min(births, key=lambda birth: birth[:2])[2]


class Tape(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Records the operations whose results are not finite.

    An infinity that the code names, as in masked_fill(mask, -inf), or that a buffer holds, is on purpose until it
    becomes NaN: a softmax that turns it into zeros ends it, one that turns it into NaN is a birth. So masks are never
    taken for faults.

    weights: the names of parameters by `key_of`. held: names of tensors that the step only reads (buffers, data).
    """

    def __init__(self, places: Places, rows: RowFinder, weights: Mapping[int, str], held: Mapping[int, str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._places = places
        self._rows = rows
        self._weights = dict(weights)
        self._held = held
        self._shapes: set[tuple[int, ...]] = set()
        self._bad: dict[int, BadResult] = {}
        self._n = 0
        self.is_backward = False

    def watch_shapes(self, shapes: Iterable[tuple[int, ...]]) -> None:
        """The shapes of the parameters: a gradient of one of these shapes has no rows."""
        self._shapes = {shape for given in shapes for shape in (given, given[::-1])}

    def result_of(self, tensor: Tensor) -> BadResult | None:
        """Return the record of a tensor that is not finite; None if it is finite or not known."""
        return self._bad.get(key_of(tensor))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        schema = func._schema
        aliases = [r.alias_info for r in schema.returns if r.alias_info is not None]
        if aliases and not any(alias.is_write for alias in aliases):  # A view has no new values.
            return func(*args, **kwargs)
        arguments = tree_leaves((args, kwargs))
        inputs = [argument for argument in arguments if isinstance(argument, Tensor)]
        before: dict[int | None, BadResult] = {key: self._bad[key] for key in map(_key, inputs) if key in self._bad}
        output = func(*args, **kwargs)
        outputs = [leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor)]
        self._n += 1
        self._record(func.overloadpacket.__name__, args, arguments, inputs, outputs, before)
        return output

    def _record(
        self,
        operation: str,
        args: tuple[Any, ...],
        arguments: list[Any],
        inputs: list[Tensor],
        outputs: list[Tensor],
        before: Mapping[int | None, BadResult],
    ) -> None:
        mutated = {id(tensor) for tensor in outputs} & {id(tensor) for tensor in inputs}
        fresh = [tensor for tensor in outputs if id(tensor) not in mutated and _key(tensor) is not None]
        tracked = [tensor for tensor in inputs if _key(tensor) is not None]
        self._rows.computed(tracked, fresh)
        self._name_copies(tracked, fresh)
        for tensor in fresh:
            self._bad.pop(key_of(tensor), None)
        if operation in _UNINITIALIZED:
            return
        for tensor in outputs:
            if not has_values(tensor) or _key(tensor) is None:
                continue
            if is_finite(tensor):
                if id(tensor) not in mutated or tensor.numel() == _n_stored(tensor):
                    self._bad.pop(key_of(tensor), None)
                continue
            parents = self._parents(inputs, mutated, before)
            self._bad[key_of(tensor)] = self._result(operation, args, arguments, inputs, tensor, parents)

    def _name_copies(self, inputs: list[Tensor], fresh: list[Tensor]) -> None:
        """A result of weights alone, such as one in another dtype, is called as the weight."""
        names = {self._weights.get(key_of(tensor), "") for tensor in inputs}
        name = names.pop() if len(names) == 1 else ""
        for tensor in fresh:
            if name:
                self._weights[key_of(tensor)] = name
            else:
                self._weights.pop(key_of(tensor), None)

    def _parents(
        self, inputs: list[Tensor], mutated: set[int], before: Mapping[int | None, BadResult]
    ) -> tuple[BadResult, ...]:
        """Return the records of the inputs that are not finite."""
        parents: dict[int, BadResult] = {}
        for tensor in inputs:
            key = _key(tensor)
            if key is None or not has_values(tensor):
                continue
            if id(tensor) in mutated:  # Its values before are overwritten.
                if key in before:
                    parents[key] = before[key]
            elif not is_finite(tensor):
                parents[key] = before.get(key) or self._given(tensor)
        return tuple(parents.values())

    def _given(self, tensor: Tensor) -> BadResult:
        """Return the record of a non-finite tensor that no operation made: a weight, a buffer, data, or a constant."""
        key = key_of(tensor)
        self._n += 1
        present = kinds(tensor)
        weight = self._weights.get(key, "")
        name = weight or self._held.get(key, "")
        is_on_purpose = not weight and "nan" not in present and not self._rows.depends_on_batch(tensor)
        birth = Birth(
            module=self._places.module,
            parameter=name,
            kind=_first_kind(present),
            cause="already",
            inputs=(range_of(name or "input", tensor),),
            rows=self._rows.rows_of(tensor, ~tensor.detach().isfinite()),
            line=self._places.line,
        )
        result = BadResult(self._n, present, (), is_on_purpose, birth)
        self._bad[key] = result
        return result

    def _result(
        self,
        operation: str,
        args: tuple[Any, ...],
        arguments: list[Any],
        inputs: list[Tensor],
        output: Tensor,
        parents: tuple[BadResult, ...],
    ) -> BadResult:
        self._n += 1
        present = kinds(output)
        on_purpose = all(parent.is_on_purpose for parent in parents)
        has_nan = "nan" in present and not any("nan" in parent.kinds for parent in parents)
        if not on_purpose or (parents and not has_nan):
            return BadResult(self._n, present, parents, on_purpose)
        kind: Kind = "nan" if parents else _first_kind(present)
        birth = self._birth(operation, args, inputs, output, kind, masked=bool(parents))
        if any(isinstance(a, float) and math.isinf(a) for a in arguments) and not has_nan:
            return BadResult(self._n, present, parents, True, replace(birth, cause="constant"))
        return BadResult(self._n, present, parents, birth=birth)

    def _birth(
        self,
        operation: str,
        args: tuple[Any, ...],
        inputs: list[Tensor],
        output: Tensor,
        kind: Kind,
        *,
        masked: bool,
    ) -> Birth:
        others = [tensor for tensor in inputs if tensor is not output and has_values(tensor)]
        if masked:
            cause: Cause = "all_masked" if "softmax" in operation or "attention" in operation else "infinity"
        else:
            cause = cause_of(operation, args, others, kind)
        weight = next((name for t in inputs if (name := self._weights.get(_key(t) or 0, ""))), "")
        ranges = [range_of(self._name(tensor), tensor) for tensor in others[:MAX_INPUTS]]
        return Birth(
            operation=operation,
            node=self._places.node_name,
            module=self._places.module,
            parameter=weight,
            kind=kind,
            cause=cause,
            inputs=tuple(ranges),
            output=range_of("output", output),
            rows=self._rows_of(operation, args, others, output),
            line=self._places.line,
            is_backward=self.is_backward,
        )

    def _name(self, tensor: Tensor) -> str:
        """ "weight" or another parameter's own name, or "input"."""
        return self._weights.get(_key(tensor) or 0, "input").rpartition(".")[2]

    def _rows_of(self, operation: str, args: tuple[Any, ...], inputs: list[Tensor], output: Tensor) -> Rows | None:
        wrong = ~output.detach().isfinite()
        has_weight = any(_key(tensor) in self._weights for tensor in inputs)
        is_of_parameter = tuple(output.shape) in self._shapes and self.is_backward and not has_weight
        factors = _PRODUCTS.get(operation)
        if is_of_parameter and factors is not None and output.dim() == 2:
            return self._rows.of_product(args[factors[0]], args[factors[1]], wrong)
        if is_of_parameter and (operation in _SUMS or operation.endswith("norm_backward")):
            return self._rows.largest(inputs)
        if output.dim():
            rows = self._rows.rows_of(output, wrong)
            if rows is not None:
                return rows
        return self._rows.largest(inputs)


def _key(tensor: Tensor) -> int | None:
    """As key_of; None for a tensor without memory of its own, as within torch.func."""
    try:
        return key_of(tensor)
    except (RuntimeError, NotImplementedError):
        return None


def _n_stored(tensor: Tensor) -> int:
    return tensor.untyped_storage().nbytes() // tensor.element_size()


def _first_kind(present: frozenset[Kind]) -> Kind:
    """Return the kind to name: an infinity is the cause of a NaN more often than the other way round."""
    return next(kind for kind in ("inf", "-inf", "nan") if kind in present)

"""The value of an expression of a script, computed from its variables without running any code of the script."""

import ast
import math
import operator
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from tui_lab.core.watch.code.call_places import name_of
from tui_lab.core.watch.variables.script_objects import stored

_NUMBERS = (bool, int, float)
_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_FUNCTIONS: dict[str, Callable[..., Any]] = {"int": int, "max": max, "min": min, "range": range, "ceil": math.ceil}


class NotPlain(Exception):
    """The value cannot be known."""


def value_of(expression: ast.expr, variables: Mapping[str, Any]) -> Any:
    """Return the value: of names, stored attributes, numbers and what is computed from them. Raises NotPlain."""
    try:
        return _value(expression, variables)
    except (ArithmeticError, TypeError, ValueError, LookupError, AttributeError) as error:
        raise NotPlain(ast.unparse(expression)) from error


def length_of(values: Any) -> int:
    """Return how many items a loop over `values` gets. Raises NotPlain where only the script's own code knows."""
    kind = type(values)
    if kind in (range, list, tuple, dict):
        return len(values)
    if isinstance(values, Tensor) and values.dim():
        return int(values.shape[0])
    if issubclass(kind, DataLoader) and not isinstance(values.dataset, IterableDataset):
        try:
            return len(values)
        except Exception as error:  # A data set may have no length.
            raise NotPlain(kind.__name__) from error
    total = stored(values).get("total") if kind.__module__.partition(".")[0] == "tqdm" else None
    if type(total) is int:
        return total
    raise NotPlain(kind.__name__)


def _value(node: ast.expr, variables: Mapping[str, Any]) -> Any:
    match node:
        case ast.Constant(value=value):
            return value
        case ast.Name(id=name):
            return variables[name]
        case ast.Attribute(value=owner, attr=name):
            return _attribute(_value(owner, variables), name)
        case ast.Subscript(value=owner, slice=ast.Constant(value=key)):
            container = _value(owner, variables)
            if type(container) not in (dict, list, tuple):
                raise NotPlain(ast.unparse(node))
            return container[key]
        case ast.BinOp(left=left, op=op, right=right):
            return _ARITHMETIC[type(op)](_number(left, variables), _number(right, variables))
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_number(operand, variables)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return not _plain(operand, variables)
        case ast.Compare(left=left, ops=[op], comparators=[right]):
            return _compared(left, op, right, variables)
        case ast.Call(func=function, args=arguments, keywords=[]):
            return _called(function, arguments, variables)
    raise NotPlain(ast.unparse(node))


def _attribute(owner: Any, name: str) -> Any:
    if isinstance(owner, Tensor) and name == "shape":
        return tuple(owner.shape)
    attributes = vars(owner) if type(owner) is ModuleType else stored(owner)
    if name in attributes:
        return attributes[name]
    for base in type(owner).__mro__:  # A default of a dataclass.
        if type(vars(base).get(name)) in (*_NUMBERS, str):
            return vars(base)[name]
    raise NotPlain(name)


def _number(node: ast.expr, variables: Mapping[str, Any]) -> Any:
    value = _value(node, variables)
    if type(value) not in _NUMBERS:
        raise NotPlain(ast.unparse(node))
    return value


def _plain(node: ast.expr, variables: Mapping[str, Any]) -> Any:
    """Return a value that a comparison runs no code of the script for."""
    value = _value(node, variables)
    if value is not None and type(value) not in (*_NUMBERS, str):
        raise NotPlain(ast.unparse(node))
    return value


def _compared(left: ast.expr, op: ast.cmpop, right: ast.expr, variables: Mapping[str, Any]) -> bool:
    if isinstance(op, ast.Is | ast.IsNot):
        is_same = _value(left, variables) is _value(right, variables)
        return is_same if isinstance(op, ast.Is) else not is_same
    return bool(_COMPARISONS[type(op)](_plain(left, variables), _plain(right, variables)))


def _called(function: ast.expr, arguments: list[ast.expr], variables: Mapping[str, Any]) -> Any:
    name = name_of(function)
    if name == "size" and isinstance(function, ast.Attribute) and len(arguments) == 1:
        owner = _value(function.value, variables)
        if isinstance(owner, Tensor):
            return int(owner.shape[_number(arguments[0], variables)])
    if name == "len" and len(arguments) == 1 and name not in variables:
        return length_of(_value(arguments[0], variables))
    if name in _FUNCTIONS and name not in variables:
        return _FUNCTIONS[name](*(_number(argument, variables) for argument in arguments))
    raise NotPlain(name)

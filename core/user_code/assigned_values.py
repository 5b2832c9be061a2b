"""Constants that a file assigns, such as `learning_rate = 3e-4`: read from its source."""

import ast
import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

CONTAINERS = ("dict", "SimpleNamespace", "Namespace")
"""Functions whose keyword arguments are entries of what they return."""
MOST_DIGITS = 64
"""The largest exponent that is computed: a larger one may take forever."""
_OPERATORS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Pow: operator.pow,
}


@dataclass(frozen=True)
class AssignedValue:
    """A constant that one statement assigns.

    scope: the class or function in whose body it is, OUTER.INNER; "" at the top level. path: the variable, then the
    keys or attributes that lead to the value; without the variable for what a function returns. last_line: of the
    statement, from 1. node: the expression.
    """

    value: Any
    scope: str
    path: tuple[str, ...]
    last_line: int
    node: ast.expr = field(compare=False)
    is_in_function: bool = False

    @property
    def outer_scope(self) -> str:
        """The scope whose statements assign the value, or define its function."""
        return self.scope.rpartition(".")[0] if self.is_in_function else self.scope


@dataclass(frozen=True)
class Assigned:
    """What a file assigns, by keys: NAME, CLASS.NAME for one in the body of a class, NAME.KEY.KEY for one in a dict,
    and NAME.ATTRIBUTE for one of an object.

    Those of functions are FUNCTION.NAME, and FUNCTION.KEY for an entry of a dict that it returns.

    values: those that one statement assigns, as a constant. lines: of every statement that assigns a key, in any way.
    in_functions: the keys of functions.
    """

    values: dict[str, AssignedValue] = field(default_factory=dict)
    lines: dict[str, tuple[int, ...]] = field(default_factory=dict)
    in_functions: frozenset[str] = frozenset()


@dataclass(frozen=True)
class _Assignment:
    """A key that is assigned. node: the value, None if no single expression has it. place: the statement, or only the
    target within a compound one.
    """

    scope: str
    path: tuple[str, ...]
    node: ast.expr | None
    place: ast.stmt | ast.expr
    is_in_function: bool = False

    @property
    def last_line(self) -> int:
        return self.place.end_lineno or self.place.lineno

    @property
    def key(self) -> str:
        return ".".join([*([self.scope] if self.scope else []), *self.path])


def assigned_values(path: Path, *, is_script: bool = True) -> Assigned:
    """Return what a file assigns outside of loops and conditions. Raises OSError.

    is_script: whether Python runs it as __main__, so that `if __name__ == "__main__"` belongs to its top level. In
    functions and in other modules, the keyword arguments of every call count as entries. Empty for a file that is not
    Python.
    """
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return Assigned()
    assignments = list(_Reader(is_script=is_script).assignments(tree.body, ""))
    by_key: dict[str, list[_Assignment]] = {}
    for each in assignments:
        by_key.setdefault(each.key, []).append(each)
    values = {}
    lines = {}
    for key, of_key in by_key.items():
        overwritten = [each for each in assignments if _overwrites(each, of_key[-1])]
        lines[key] = tuple(dict.fromkeys(each.place.lineno for each in [*of_key, *overwritten]))
        if len(of_key) == 1 and not overwritten and (value := _value(of_key[0])) is not None:
            values[key] = value
    return Assigned(values, lines, frozenset(each.key for each in assignments if each.is_in_function))


def _overwrites(other: _Assignment, assignment: _Assignment) -> bool:
    """Return whether a later statement assigns the whole of which a key is a part."""
    return other.place.lineno > assignment.last_line and assignment.key.startswith(f"{other.key}.")


def _value(assignment: _Assignment) -> AssignedValue | None:
    """Return the constant that an assignment has; None if its value is computed when the script runs."""
    node = assignment.node
    if node is None:
        return None
    try:
        value = _constant(node)
    except (ValueError, TypeError, ArithmeticError):
        return None
    of_function = assignment.is_in_function
    return AssignedValue(value, assignment.scope, assignment.path, assignment.last_line, node, of_function)


def _constant(node: ast.expr) -> Any:
    """Return the value of a literal, or of an expression of numbers such as 5 * 8. Raises ValueError for others."""
    if not isinstance(node, ast.BinOp):
        return ast.literal_eval(node)
    left = _constant(node.left)
    right = _constant(node.right)
    compute = _OPERATORS.get(type(node.op))
    is_number = all(type(value) in (int, float) for value in (left, right))
    if compute is None or not is_number or (isinstance(node.op, ast.Pow) and abs(right) > MOST_DIGITS):
        raise ValueError(ast.unparse(node))
    return compute(left, right)


class _Reader:
    """Reads the statements of a file.

    The top level of a script runs as it is, and its values are replaced afterwards. Functions and other modules are
    compiled with other values: there, the arguments of any call can differ, but not one value of several targets.
    """

    def __init__(self, *, is_script: bool) -> None:
        self._is_script = is_script
        self._is_compiled = not is_script

    def assignments(self, body: Sequence[ast.stmt], scope: str) -> Iterator[_Assignment]:
        """Yield what the statements of the top level, or of the body of a class, assign."""
        for statement in body:
            match statement:
                case ast.ClassDef(name=name, body=inner):
                    yield from self.assignments(inner, f"{scope}.{name}" if scope else name)
                case ast.FunctionDef(name=name, body=inner) | ast.AsyncFunctionDef(name=name, body=inner):
                    yield from self._of_function(inner, f"{scope}.{name}" if scope else name)
                case ast.If(test=test, body=inner, orelse=[]) if self._is_script and _is_main(test):
                    yield from self.assignments(inner, scope)
                case _:
                    yield from self._of_statement(statement, scope)

    def _of_function(self, body: Sequence[ast.stmt], scope: str) -> Iterator[_Assignment]:
        reader = _Reader(is_script=False)
        for statement in body:
            yield from (replace(each, is_in_function=True) for each in reader._of_statement(statement, scope))
            if isinstance(statement, ast.Return):
                parts = [(path, part) for path, part in reader._entries((), statement.value) if path]
                yield from (_Assignment(scope, path, part, statement, is_in_function=True) for path, part in parts)

    def _of_statement(self, statement: ast.stmt, scope: str) -> Iterator[_Assignment]:
        match statement:
            case ast.Assign(targets=targets, value=value):
                for target in targets:
                    node = None if self._is_compiled and len(targets) > 1 else value
                    yield from (_Assignment(scope, path, part, statement) for path, part in self._parts(target, node))
            case ast.AnnAssign(target=target, value=value) if value is not None:
                yield from (_Assignment(scope, path, part, statement) for path, part in self._parts(target, value))
            case ast.AugAssign() | ast.If() | ast.For() | ast.While() | ast.With() | ast.Try() | ast.Match():
                for path, target in _stored_within(statement):
                    yield _Assignment(scope, path, None, target)

    def _parts(self, target: ast.expr, value: ast.expr | None) -> Iterator[tuple[tuple[str, ...], ast.expr | None]]:
        """Yield the path of each value that a target gets, with its expression."""
        if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple) and len(target.elts) == len(value.elts):
            for one, its_value in zip(target.elts, value.elts, strict=True):
                yield from self._parts(one, its_value)
        elif (path := _path(target)) is not None:
            yield from self._entries(path, value)

    def _entries(
        self, path: tuple[str, ...], value: ast.expr | None
    ) -> Iterator[tuple[tuple[str, ...], ast.expr | None]]:
        """Yield a value, or where it has entries each of them; not the whole then."""
        match value:
            case ast.Dict(keys=keys, values=values):
                yield path, None
                for key, entry in zip(keys, values, strict=True):
                    if isinstance(key, ast.Constant) and isinstance(key.value, str):
                        yield from self._entries((*path, key.value), entry)
            case ast.Call(func=func, keywords=keywords) if keywords and self._is_container(func):
                yield path, None
                for keyword in keywords:
                    if keyword.arg is not None:
                        yield from self._entries((*path, keyword.arg), keyword.value)
            case _:
                yield path, value

    def _is_container(self, function: ast.expr) -> bool:
        name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
        return self._is_compiled or name in CONTAINERS


def _path(target: ast.expr) -> tuple[str, ...] | None:
    """Return the variable of a target and the keys or attributes after it; None for another target."""
    match target:
        case ast.Name(id=name):
            return (name,)
        case ast.Attribute(value=owner, attr=name) | ast.Subscript(value=owner, slice=ast.Constant(value=str(name))):
            path = _path(owner)
            return None if path is None else (*path, name)
    return None


def _is_main(test: ast.expr) -> bool:
    """Return whether a condition is `__name__ == "__main__"`."""
    match test:
        case ast.Compare(left=ast.Name(id="__name__"), ops=[ast.Eq()], comparators=[ast.Constant(value="__main__")]):
            return True
    return False


def _stored_within(statement: ast.stmt) -> Iterator[tuple[tuple[str, ...], ast.expr]]:
    """Yield the paths that a compound or augmented statement assigns, within functions, too, with the targets."""
    for node in ast.walk(statement):
        if not isinstance(node, ast.Name | ast.Attribute | ast.Subscript) or not isinstance(node.ctx, ast.Store):
            continue
        if (path := _path(node)) is not None:
            yield path, node

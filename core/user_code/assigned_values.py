"""Values that a script assigns at its top level, such as `learning_rate = 3e-4`: read from its source."""

import ast
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class AssignedValue:
    """A literal value. last_line: of the statement that assigns it, from 1."""

    value: Any
    last_line: int


Assigned = dict[str, AssignedValue]
"""By their keys: NAME, CLASS.NAME for one in the body of a class, NAME.KEY for one in a dict."""
_Pair = tuple[str, ast.expr | None, ast.stmt]
"""A key, the value that it gets (None: no single one) and the statement."""


def assigned_values(path: Path) -> Assigned:
    """Return the values that a script assigns exactly once, outside of functions, loops and conditions.

    Empty for a file that is not Python. Raises OSError.
    """
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return {}
    pairs = [pair for statement in tree.body for pair in _pairs(statement)]
    n_assigned = Counter(key for key, _, _ in pairs) + Counter(_bound_elsewhere(tree.body))
    values = {}
    for key, node, statement in pairs:
        if n_assigned[key] == 1 and node is not None:
            try:
                values[key] = AssignedValue(ast.literal_eval(node), statement.end_lineno or statement.lineno)
            except (ValueError, TypeError):
                continue  # Computed when the script runs.
    return values


def _pairs(statement: ast.stmt) -> Iterator[_Pair]:
    """Yield the keys that a statement assigns."""
    match statement:
        case ast.Assign(targets=targets, value=value):
            for target in targets:
                yield from ((key, node, statement) for key, node in _of_target(target, value))
        case ast.AnnAssign(target=target, value=value) if value is not None:
            yield from ((key, node, statement) for key, node in _of_target(target, value))
        case ast.ClassDef(name=name, body=body):
            yield from ((f"{name}.{key}", value, inner) for inner in body for key, value in _simple(inner))


def _simple(statement: ast.stmt) -> Iterator[tuple[str, ast.expr | None]]:
    match statement:
        case ast.Assign(targets=[ast.Name(id=name)], value=value):
            yield name, value
        case ast.AnnAssign(target=ast.Name(id=name), value=value):
            yield name, value


def _of_target(target: ast.expr, value: ast.expr) -> Iterator[tuple[str, ast.expr | None]]:
    match target, value:
        case ast.Name(id=name), ast.Dict(keys=keys, values=values):
            yield name, None  # Its entries are swept, not the whole.
            for key, entry in zip(keys, values, strict=True):
                if isinstance(key, ast.Constant) and isinstance(key.value, str):
                    yield f"{name}.{key.value}", entry
        case ast.Name(id=name), ast.Call(func=ast.Name(id="dict"), args=[], keywords=keywords):
            yield name, None
            yield from ((f"{name}.{keyword.arg}", keyword.value) for keyword in keywords if keyword.arg)
        case ast.Name(id=name), _:
            yield name, value
        case ast.Tuple(elts=targets), ast.Tuple(elts=values) if len(targets) == len(values):
            for one, its_value in zip(targets, values, strict=True):
                yield from _of_target(one, its_value)


def _bound_elsewhere(body: list[ast.stmt]) -> Iterator[str]:
    """Yield the names that conditions, loops and other compound statements of the top level assign as well."""
    compound = (ast.If, ast.For, ast.While, ast.With, ast.Try, ast.Match)
    for statement in body:
        if isinstance(statement, compound):
            yield from (
                node.id
                for node in ast.walk(statement)
                if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
            )
        elif isinstance(statement, ast.AugAssign) and isinstance(statement.target, ast.Name):
            yield statement.target.id

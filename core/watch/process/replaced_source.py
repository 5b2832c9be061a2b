"""Compile a file with other values in the places of some of its constants. The file stays as it is."""

import ast
from collections.abc import Iterator, Sequence
from types import CodeType
from typing import Any

from tui_lab.core.user_code.assigned_values import AssignedValue

Replacement = tuple[AssignedValue, Any]
"""What a file assigns, and the value in its place."""


def compiled(source: bytes, name: str, replacements: Sequence[Replacement]) -> CodeType:
    """Return the code of a module in which only these expressions differ, so that whatever it computes follows.

    name: of the file, for tracebacks. Raises SyntaxError.
    """
    tree = _Replacer(replacements).visit(ast.parse(source, name))
    return compile(tree, name, "exec", dont_inherit=True)


def code_within(code: CodeType, like_code: CodeType) -> CodeType | None:
    """Return the code of the same function or class in another code of its module; None if it is not there."""
    for each in _codes(code):
        if (each.co_qualname, each.co_firstlineno) == (like_code.co_qualname, like_code.co_firstlineno):
            return each
    return None


def like(own: Any, value: Any) -> Any:
    """Return a list as the tuple that a file has in its place."""
    return tuple(value) if isinstance(own, tuple) and isinstance(value, list) else value


class _Replacer(ast.NodeTransformer):
    """Puts values in the places of expressions."""

    def __init__(self, replacements: Sequence[Replacement]) -> None:
        self._values = {_place(own.node): like(own.value, value) for own, value in replacements}

    def visit(self, node: ast.AST) -> Any:
        if isinstance(node, ast.expr) and (place := _place(node)) in self._values:
            literal = ast.parse(repr(self._values.pop(place)), mode="eval").body
            for each in ast.walk(literal):
                ast.copy_location(each, node)
            return literal
        return self.generic_visit(node)


def _place(node: ast.expr) -> tuple[int, int, int | None, int | None]:
    return node.lineno, node.col_offset, node.end_lineno, node.end_col_offset


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)

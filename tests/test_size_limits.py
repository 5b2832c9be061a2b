"""The limits of CONTRIBUTING.md: lines of a function, methods of a class."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = ("core", "data", "tui_lab")
MAX_LINES = 40
MAX_METHODS = 25
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def statements(block: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements of a block and of the blocks in it; expressions, most of the tree, have no functions."""
    for statement in block:
        yield statement
        for name in ("body", "orelse", "finalbody"):
            yield from statements(getattr(statement, name, []))
        for clause in (*getattr(statement, "handlers", ()), *getattr(statement, "cases", ())):
            yield from statements(clause.body)


def all_statements() -> Iterator[tuple[str, ast.stmt]]:
    """Yield every statement of the code with the file that it is in."""
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*.py"):
            name = str(path.relative_to(ROOT))
            for statement in statements(ast.parse(path.read_text("utf-8")).body):
                yield name, statement


def n_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return (function.end_lineno or function.lineno) - function.lineno + 1


def n_methods(kind: ast.ClassDef) -> int:
    return sum(isinstance(part, FUNCTIONS) for part in kind.body)


def test_functions_and_classes_are_small() -> None:
    too_large = []
    for path, node in all_statements():
        if isinstance(node, FUNCTIONS) and n_lines(node) > MAX_LINES:
            too_large.append(f"{path}: {node.name} has {n_lines(node)} lines")
        if isinstance(node, ast.ClassDef) and n_methods(node) > MAX_METHODS:
            too_large.append(f"{path}: {node.name} has {n_methods(node)} methods")
    assert not too_large, "find the second concept in each, and give it a name"

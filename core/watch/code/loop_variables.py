"""Which variables of a script only count or hold results in its loops, and are not settings: read from its source."""

import ast
import re
from collections.abc import Iterator
from functools import lru_cache
from types import FrameType

from tui_lab.core.watch.code.call_places import name_of, parsed_source

_Loop = ast.For | ast.AsyncFor | ast.While
_OTHER_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_NUMBERS = frozenset({"range", "trange", "count"})
"""Functions whose numbers a loop counts."""
_WRAPPERS = frozenset({"tqdm", "track"})
"""Functions that show the progress of what they are given."""
_COUNTER = re.compile(
    r"(^|_)(batch|cycle|ep|epoch|fold|idx|index|it|iter|iteration|rep|repeat|repetition|round|step)($|_|\d)|^[a-z]$",
    re.IGNORECASE,
)
"""Names of what only counts, also in the loop around the one that runs."""


def loop_variables(frame: FrameType) -> frozenset[str]:
    """Return the loop variables of a running function, or of a module at the line that it has reached.

    They are assigned in loops only: in the innermost loop that runs, or in one that does not run. What only a loop
    around that assigns may be a setting, such as the rate in `for lr in rates`, unless it counts, as in
    `for fold in range(5)`. What a loop that runs adds to is one, too.
    """
    code = frame.f_code
    return _loop_variables(code.co_filename, code.co_name, code.co_firstlineno, frame.f_lineno)


def executed_loop_variables(file: str) -> frozenset[str]:
    """Return those of a file that a script has executed as part of itself, such as one that reads the command line."""
    return _loop_variables(file, "<module>", 1, 0)


@lru_cache(maxsize=256)
def _loop_variables(file: str, name: str, first_line: int, line: int) -> frozenset[str]:
    tree = parsed_source(file)
    scope = None if tree is None else scope_of(tree, name, first_line)
    if scope is None:
        return frozenset()
    loops_of: dict[str, list[tuple[_Loop, ...]]] = {}
    for variable, loops in _assignments(scope, ()):
        loops_of.setdefault(variable, []).append(loops)
    running = [loop for every in loops_of.values() for loops in every for loop in loops if _contains(loop, line)]
    innermost = max(running, key=lambda loop: loop.lineno, default=None)
    assigned = {
        variable
        for variable, every in loops_of.items()
        if all(every) and any(loops[-1] is innermost or not _contains(loops[-1], line) for loops in every)
    }
    return frozenset(assigned.union(_counters(scope, line)))


def scope_of(tree: ast.Module, name: str, first_line: int) -> ast.AST | None:
    """Return the function that begins at a line, or the module; None if it is not there."""
    if name == "<module>":
        return tree
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name:
            lines = [node.lineno, *(decorator.lineno for decorator in node.decorator_list)]
            if min(lines) == first_line:
                return node
    return None


def _assignments(node: ast.AST, loops: tuple[_Loop, ...]) -> Iterator[tuple[str, tuple[_Loop, ...]]]:
    """Yield the names that a scope assigns to, each with the loops around it, the outermost first."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.arg):
            yield child.arg, loops
        elif isinstance(child, ast.Name) and isinstance(child.ctx, ast.Store):
            yield child.id, loops
        elif isinstance(child, _OTHER_SCOPES + _COMPREHENSIONS):
            continue
        else:
            yield from _assignments(child, (*loops, child) if isinstance(child, _Loop) else loops)


def _counters(node: ast.AST, line: int) -> Iterator[str]:
    """Yield what counts in the loops that run: `epoch` in `for epoch in range(9)`, and `n` in `n += 1`."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, _Loop):
            if not _contains(child, line):
                continue
            if not isinstance(child, ast.While):
                yield from filter(_COUNTER.search, _counted(child.target, child.iter))
            yield from _added_to(child)
        if not isinstance(child, _OTHER_SCOPES + _COMPREHENSIONS):
            yield from _counters(child, line)


def _added_to(node: ast.AST) -> Iterator[str]:
    """Yield the names to which a scope adds something."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.AugAssign) and isinstance(child.op, ast.Add) and isinstance(child.target, ast.Name):
            yield child.target.id
        elif not isinstance(child, _OTHER_SCOPES):
            yield from _added_to(child)


def _counted(target: ast.expr, values: ast.expr) -> list[str]:
    """Return the name of the number that a `for` counts, in a list; empty if it goes through other values."""
    if not isinstance(values, ast.Call):
        return []
    function = name_of(values.func)
    if function in _WRAPPERS and values.args:
        return _counted(target, values.args[0])
    if function == "enumerate" and isinstance(target, ast.Tuple) and target.elts:
        target = target.elts[0]
    elif function not in _NUMBERS:
        return []
    return [target.id] if isinstance(target, ast.Name) else []


def _contains(loop: _Loop, line: int) -> bool:
    return loop.lineno <= line <= (loop.end_lineno or loop.lineno)

"""The loops of a script that run around a call, read from its source, and what may end them early."""

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import FrameType

from tui_lab.core.watch.code.call_places import name_of, parsed_source
from tui_lab.core.watch.code.loop_variables import scope_of

LoopNode = ast.For | ast.While
_OTHER_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)
_EXITS = ("exit", "_exit", "quit")


@dataclass(frozen=True)
class LoopExit:
    """A statement that ends a loop early. tests: the conditions around it in the loop; all of them are true then.

    leaves_function: whether it ends all loops of the function.
    """

    line: int
    tests: tuple[ast.expr, ...]
    leaves_function: bool


@dataclass(frozen=True)
class SourceLoop:
    """A loop that runs. line: of the call in its body. is_certain: whether each of its passes makes that call.

    exits: what may end it early. stores: what its body assigns to, with the statement; "" stands for what is not known.
    """

    file: str
    node: LoopNode
    line: int
    is_certain: bool
    exits: tuple[LoopExit, ...]
    stores: tuple[tuple[str, ast.stmt], ...]


def running_loops(frame: FrameType) -> tuple[SourceLoop, ...] | None:
    """Return the loops around the call that a function or module makes, outermost first; None without its source."""
    code = frame.f_code
    return _running_loops(code.co_filename, code.co_name, code.co_firstlineno, frame.f_lineno)


@lru_cache(maxsize=256)
def _running_loops(file: str, name: str, first_line: int, line: int) -> tuple[SourceLoop, ...] | None:
    tree = parsed_source(file)
    scope = None if tree is None else scope_of(tree, name, first_line)
    if scope is None:
        return None
    path = _path_to(scope, line)
    nodes = [node for node in path if isinstance(node, LoopNode)]
    loops = []
    for node in nodes:
        following = path[path.index(node) + 1 :]
        own = following[: next((i for i, each in enumerate(following) if isinstance(each, LoopNode)), len(following))]
        is_certain = not any(isinstance(each, ast.If | ast.Match | ast.ExceptHandler) for each in own)
        is_certain &= not any(each.lineno < line for each in _continues(node.body))
        exits = tuple(_exits(node.body, (), in_own_loop=True))
        loops.append(SourceLoop(file, node, line, is_certain, exits, tuple(_stores(node))))
    return tuple(loops)


def _path_to(scope: ast.AST, line: int) -> list[ast.AST]:
    """Return the statements around a line, the outermost first; of a loop, only if the line is in its body."""
    path: list[ast.AST] = []
    body = _statements(scope)
    while True:
        node = next((each for each in body if each.lineno <= line <= (each.end_lineno or each.lineno)), None)
        if node is None or isinstance(node, _OTHER_SCOPES):
            return path
        if isinstance(node, LoopNode) and not node.body[0].lineno <= line <= (node.body[-1].end_lineno or 0):
            return path
        path.append(node)
        body = list(node.body) if isinstance(node, LoopNode) else _statements(node)


def _statements(node: ast.AST) -> "list[ast.stmt | ast.ExceptHandler]":
    children = ast.iter_child_nodes(node)
    return [each for each in children if isinstance(each, ast.stmt | ast.ExceptHandler)]


def _continues(body: Sequence[ast.stmt]) -> Iterator[ast.Continue]:
    for node in body:
        if isinstance(node, ast.Continue):
            yield node
        elif not isinstance(node, (*_OTHER_SCOPES, ast.For, ast.While)):
            yield from _continues([each for each in ast.walk(node) if isinstance(each, ast.Continue)])


def _exits(body: Sequence[ast.stmt], tests: tuple[ast.expr, ...], *, in_own_loop: bool) -> Iterator[LoopExit]:
    """Yield what ends a loop, in the body of it or in a statement there. Errors are not exits that a script plans."""
    for node in body:
        if _is_exit(node) and (in_own_loop or not isinstance(node, ast.Break)):
            yield LoopExit(node.lineno, tests, leaves_function=not isinstance(node, ast.Break))
        match node:
            case ast.If(test=test):
                yield from _exits(node.body, (*tests, test), in_own_loop=in_own_loop)
                otherwise = ast.UnaryOp(ast.Not(), test)
                yield from _exits(node.orelse, (*tests, otherwise), in_own_loop=in_own_loop)
            case ast.For() | ast.While():
                yield from _exits(node.body, tests, in_own_loop=False)
            case ast.With():
                yield from _exits(node.body, tests, in_own_loop=in_own_loop)
            case ast.Try():
                yield from _exits([*node.body, *node.orelse, *node.finalbody], tests, in_own_loop=in_own_loop)
            case ast.Match():
                inner = [statement for case in node.cases for statement in case.body]
                yield from _exits(inner, (*tests, node.subject), in_own_loop=in_own_loop)


def _is_exit(node: ast.stmt) -> bool:
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        return name_of(node.value.func) in _EXITS
    return isinstance(node, ast.Break | ast.Return)


def _stores(loop: LoopNode) -> Iterator[tuple[str, ast.stmt]]:
    """Yield what a loop assigns to, as text: its target, names, attributes and items."""
    if isinstance(loop, ast.For):
        for name in _targets(loop.target):
            yield name, loop
    for node in _own_nodes(loop.body):
        if isinstance(node, ast.stmt):
            for child in ast.iter_child_nodes(node):
                for name in _targets(child) if isinstance(child, ast.expr) else []:
                    yield name, node


def _targets(expression: ast.expr) -> Iterator[str]:
    for node in ast.walk(expression):
        if isinstance(node, ast.Name | ast.Attribute | ast.Subscript) and isinstance(node.ctx, ast.Store | ast.Del):
            yield ast.unparse(node)


def _own_nodes(body: Sequence[ast.AST]) -> Iterator[ast.AST]:
    for node in body:
        if not isinstance(node, _OTHER_SCOPES):
            yield node
            yield from _own_nodes(list(ast.iter_child_nodes(node)))

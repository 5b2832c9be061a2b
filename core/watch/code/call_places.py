"""Where in its source a running function makes a call: the arguments, and the loops around it."""

import ast
import linecache
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from types import CodeType, FrameType

_COUNTS = re.compile(r"(^|_)(n|num|max|iters?|steps?|size|interval|every|frac|fraction|ratio|seed|freq)(_|$)")
"""Names of numbers, such as val_iters, which say nothing about the part of the data."""
_NOT_NAMES = ("training",)
"""The attribute of a module that says in which mode it is."""
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef, ast.Module)
_GRADIENTS_OFF = ("no_grad", "inference_mode", "set_grad_enabled")
_Range = tuple[tuple[int, int], tuple[int, int]]


@dataclass(frozen=True)
class Loop:
    """A loop around a call. names: the names and strings in what it goes over. trains: whether its body trains."""

    names: tuple[str, ...]
    trains: bool


@dataclass(frozen=True)
class CallPlace:
    """variables: of the loops around the call, innermost first, as `loops`.

    arguments: the names and strings in them. origins: those in the latest assignments to these names in the function
    before the call, as in x, y = get_batch("val"). results: those that the statement assigns to, as in val_loss = …,
    the list that it appends to, and keys of a dict. turns_gradients_off: whether the function does so around the
    call, such as by `with torch.no_grad()`. trains: whether the function also trains.
    """

    arguments: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    results: tuple[str, ...] = ()
    variables: tuple[str, ...] = ()
    loops: tuple[Loop, ...] = ()
    turns_gradients_off: bool = False
    trains: bool = False


def call_place(frame: FrameType) -> CallPlace:
    """Return the place of the call that a frame makes; an empty one if its source is not known."""
    return _place(frame.f_code, frame.f_lasti)


@lru_cache(maxsize=1024)
def _place(code: CodeType, last_instruction: int) -> CallPlace:
    first, last, start, end = list(code.co_positions())[last_instruction // 2]
    tree = parsed_source(code.co_filename)
    if tree is None or first is None or last is None or start is None or end is None:
        return CallPlace()
    every = [tree, *_enclosing(tree, ((first, start), (last, end)))]
    scope = max(i for i, node in enumerate(every) if isinstance(node, _SCOPES))
    nodes = every[scope:]
    call = nodes[-1]
    loops = [loop for node in reversed(nodes) for loop in _loops(node, nodes)]
    arguments = [*call.args, *(word.value for word in call.keywords)] if isinstance(call, ast.Call) else []
    return CallPlace(
        arguments=tuple(_names(*arguments)),
        origins=tuple(_origins(arguments, nodes[0], first)),
        results=tuple(name for node in nodes for name in _results(node, nodes)),
        variables=tuple(name.id for target, _, _ in loops for name in ast.walk(target) if isinstance(name, ast.Name)),
        loops=tuple(Loop(tuple(_names(iterated)), _trains(node)) for _, iterated, node in loops),
        turns_gradients_off=any(isinstance(node, ast.With) and _turns_gradients_off(node) for node in nodes),
        trains=_trains(nodes[0]),
    )


@lru_cache(maxsize=64)
def parsed_source(file: str) -> ast.Module | None:
    """Return the syntax tree of a file; None if it cannot be read or parsed."""
    try:
        return ast.parse("".join(linecache.getlines(file)))
    except (SyntaxError, ValueError):  # A cell of a notebook may have commands that are not Python.
        return None


def _enclosing(node: ast.AST, place: _Range) -> Iterator[ast.AST]:
    """Yield the nodes that contain the place, outermost first."""
    for child in ast.iter_child_nodes(node):
        range_of_child = _range(child)
        if range_of_child is None:
            yield from _enclosing(child, place)
        elif range_of_child[0] <= place[0] and place[1] <= range_of_child[1]:
            yield child
            yield from _enclosing(child, place)


def _range(node: ast.AST) -> _Range | None:
    if not isinstance(node, ast.expr | ast.stmt):
        return None
    return (node.lineno, node.col_offset), (node.end_lineno or node.lineno, node.end_col_offset or node.col_offset)


def _loops(node: ast.AST, nodes: list[ast.AST]) -> Iterator[tuple[ast.expr, ast.expr, ast.AST]]:
    """Yield the targets of a loop in whose body the innermost of `nodes` is, what the loop goes over, and the loop."""
    if isinstance(node, ast.For | ast.AsyncFor):
        if node.iter not in nodes:
            yield node.target, node.iter, node
    elif isinstance(node, _COMPREHENSIONS):
        for part in reversed(node.generators):
            if part.iter not in nodes:
                yield part.target, part.iter, node


def _results(node: ast.AST, nodes: list[ast.AST]) -> Iterator[str]:
    """Yield the names that a statement assigns to or appends to, and the key of a value of a dict in `nodes`."""
    if isinstance(node, ast.Assign):
        yield from _names(*node.targets)
    elif isinstance(node, ast.AnnAssign | ast.AugAssign):
        yield from _names(node.target)
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "append":
        yield from _names(node.func.value)
    elif isinstance(node, ast.Dict):
        for key, value in zip(node.keys, node.values, strict=True):
            if key is not None and value in nodes:
                yield from _names(key)


def _origins(given: list[ast.expr], scope: ast.AST, line: int) -> Iterator[str]:
    """Yield the names and strings in the latest assignments before `line` to the variables in some expressions."""
    latest: dict[str, ast.expr] = {}
    for node in _statements(scope):
        if isinstance(node, ast.Assign) and node.lineno < line:
            latest |= {name: node.value for target in node.targets for name in _names(target)}
    variables = {part.id for expression in given for part in ast.walk(expression) if isinstance(part, ast.Name)}
    for value in {id(latest[name]): latest[name] for name in variables & latest.keys()}.values():
        yield from _names(value)


def _statements(scope: ast.AST) -> Iterator[ast.AST]:
    """Yield the statements of a function in their order, without those of functions inside it."""
    for child in ast.iter_child_nodes(scope):
        if isinstance(child, ast.stmt) and not isinstance(child, _SCOPES):
            yield child
            yield from _statements(child)


def _names(*expressions: ast.expr) -> Iterator[str]:
    """Yield the names and strings in expressions, except those of numbers."""
    for expression in expressions:
        if isinstance(expression, ast.Call) and _name(expression.func) == "range":
            continue
        for node in ast.walk(expression):
            name = _name(node) or getattr(node, "value", None)
            if isinstance(name, str) and name not in _NOT_NAMES and not _COUNTS.search(name.lower()):
                yield name


def _name(node: ast.AST) -> str:
    """Return the name of a variable or attribute; "" for anything else."""
    name = getattr(node, "id", None) or getattr(node, "attr", None)
    return name if isinstance(name, str) else ""


def _turns_gradients_off(node: ast.With) -> bool:
    return any(_name(part) in _GRADIENTS_OFF for item in node.items for part in ast.walk(item.context_expr))


@lru_cache(maxsize=1024)
def _trains(node: ast.AST) -> bool:
    """Return whether a part of the source calls backward(), step() or a function whose name has "train"."""
    called = [_name(part.func) for part in ast.walk(node) if isinstance(part, ast.Call)]
    return any(name in ("backward", "step") or ("train" in name and name != "train") for name in called)


def name_of(function: ast.expr) -> str:
    """Return the last name of what is called."""
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")

"""Which variables of a script hold tensors between two steps, and where it adds to them."""

import ast
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from types import FrameType

from torch import Tensor, nn
from torch.optim import Optimizer

from tui_lab.core.user_code.shown_file import real_file, shown_file
from tui_lab.core.user_code.user_files import is_user_code
from tui_lab.core.watch.code.call_places import parsed_source
from tui_lab.core.watch.code.loop_variables import scope_of
from tui_lab.core.watch.variables.frames import locals_of, user_frames
from tui_lab.core.watch.variables.script_objects import stored

MAX_ENTRIES = 20_000
"""Entries of a list or dictionary that are looked at."""
_OF_MODULES = ("_parameters", "_buffers", "_modules")
"""Attributes of every module, which are no variables of the script."""
_ADDING = ("append", "extend", "add", "update", "insert", "appendleft", "setdefault")
"""Methods that put something into a list, a set or a dictionary."""


@dataclass(frozen=True)
class Variable:
    """name: as the script writes it, such as self.losses. file, function, first_line: where it is a variable.

    Of an attribute of a module or of its class, name has that of the class, such as Model.cache, and function is "".
    """

    name: str
    file: str
    function: str
    first_line: int


def variables_with_tensors(frame: FrameType | None) -> dict[Variable, list[Tensor]]:
    """Return the tensors that each variable of the user's running functions holds, also in lists and dictionaries.

    So do attributes of the user's objects, and of modules whose class is the user's; optimizers are left out.
    """
    by_variable: dict[Variable, list[Tensor]] = {}
    modules: dict[int, nn.Module] = {}
    for each in user_frames(frame):
        code = each.f_code
        for name, value in locals_of(each).items():
            if name.startswith("__"):
                continue
            if issubclass(type(value), nn.Module):
                modules |= {id(module): module for module in nn.Module.modules(value)}
            for full_name, part in _with_attributes(name, value):
                if tensors := list(islice(_tensors_in(part), MAX_ENTRIES)):
                    where = Variable(full_name, shown_file(code.co_filename), code.co_name, code.co_firstlineno)
                    by_variable[where] = tensors
    for where, part in _attributes_of(modules.values()):
        if tensors := list(islice(_tensors_in(part), MAX_ENTRIES)):
            by_variable.setdefault(where, []).extend(tensors)
    return by_variable


def _attributes_of(modules: Iterable[nn.Module]) -> Iterator[tuple[Variable, object]]:
    """Yield what modules keep besides weights, buffers and modules, and what their classes keep, if these are the
    user's.
    """
    classes: dict[type, str] = {}
    for module in modules:
        kind = type(module)
        if kind not in classes:
            file = getattr(sys.modules.get(kind.__module__), "__file__", None) or "<none>"
            classes[kind] = shown_file(file) if is_user_code(file) else ""
        if classes[kind]:
            for name, value in stored(module).items():
                if name not in _OF_MODULES:
                    yield Variable(f"{kind.__name__}.{name}", classes[kind], "", 0), value
    for kind, file in classes.items():
        for name, value in vars(kind).items() if file else ():
            yield Variable(f"{kind.__name__}.{name}", file, "", 0), value


def _with_attributes(name: str, value: object) -> Iterator[tuple[str, object]]:
    kind = type(value)
    if issubclass(kind, Tensor | list | tuple | dict | set | deque):
        yield name, value
    elif not issubclass(kind, nn.Module | Optimizer | type):
        for attribute, part in stored(value).items():
            if isinstance(attribute, str):
                yield f"{name}.{attribute}", part


def _tensors_in(value: object, depth: int = 2) -> Iterator[Tensor]:
    if issubclass(type(value), Tensor):
        yield value  # type: ignore[misc]
    elif depth and type(value) in (list, tuple, set, deque, dict):
        entries = value.values() if isinstance(value, dict) else value
        for entry in islice(entries, MAX_ENTRIES):  # type: ignore[call-overload]
            yield from _tensors_in(entry, depth - 1)


def place_of_addition(variable: Variable) -> str:
    """Return FILE:LINE where the source adds to a variable, or else assigns it from itself; "" if it is not found."""
    tree = parsed_source(real_file(variable.file))
    name = variable.function or "<module>"
    scope = None if tree is None else scope_of(tree, name, variable.first_line)
    if scope is None:
        return ""
    names = {variable.name} if variable.function else _attributes_named(scope, variable.name.rpartition(".")[2])
    statements = [node for node in ast.walk(scope) if isinstance(node, ast.stmt)]
    lines = [node.lineno for node in statements if any(_adds_to(node, each) for each in names)]
    return f"{variable.file}:{min(lines)}" if lines else ""


def _attributes_named(scope: ast.AST, name: str) -> set[str]:
    """Return how a source writes an attribute, such as self.cache and Model.cache."""
    return {ast.unparse(node) for node in ast.walk(scope) if isinstance(node, ast.Attribute) and node.attr == name}


def _adds_to(node: ast.stmt, name: str) -> bool:
    match node:
        case ast.AugAssign(target=target):
            return ast.unparse(target) == name or _is_entry(target, name)
        case ast.Assign(targets=[target], value=value):
            uses_itself = any(ast.unparse(part) == name for part in ast.walk(value) if isinstance(part, ast.expr))
            return (ast.unparse(target) == name and uses_itself) or _is_entry(target, name)
        case ast.Expr(value=ast.Call(func=ast.Attribute(value=owner, attr=method))):
            return method in _ADDING and (ast.unparse(owner) == name or _is_entry(owner, name))
        case _:
            return False


def _is_entry(target: ast.expr, name: str) -> bool:
    return isinstance(target, ast.Subscript) and ast.unparse(target.value) == name

"""Lines of the user's source files that hold the only node of a kind."""

import ast
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

Match = Callable[[ast.AST], bool]


def only_line(files: Iterable[str], match: Match) -> tuple[str, int] | None:
    """Return the file and line of the only node that matches, in the first file that has one.

    None if no file has one, or that file has several: they would not say which one is meant.
    """
    for file in files:
        lines = {getattr(node, "lineno", 0) for node in _nodes(Path(file)) if match(node)} - {0}
        if lines:
            return (file, lines.pop()) if len(lines) == 1 else None
    return None


def is_call(*names: str) -> Match:
    """Return what matches a call of a function, method or class with one of these names."""

    def matches(node: ast.AST) -> bool:
        name = getattr(node.func, "attr", getattr(node.func, "id", "")) if isinstance(node, ast.Call) else ""
        return name in names

    return matches


def is_keyword(*names: str) -> Match:
    """Return what matches an argument that is passed by one of these names."""
    return lambda node: isinstance(node, ast.keyword) and node.arg in names


def is_true_keyword(name: str) -> Match:
    """Return what matches `name=True` in a call."""
    return lambda node: isinstance(node, ast.keyword) and node.arg == name and _is_constant(node.value, value=True)


def is_text(text: str) -> Match:
    """Return what matches a string."""
    return lambda node: isinstance(node, ast.Constant) and node.value == text


def is_key(name: str) -> Match:
    """Return what matches the key of a dict: in {"name": …}, dict(name=…) or d["name"] = …."""

    def matches(node: ast.AST) -> bool:
        if isinstance(node, ast.Dict):
            return any(isinstance(key, ast.Constant) and key.value == name for key in node.keys)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "dict":
            return any(keyword.arg == name for keyword in node.keywords)
        if isinstance(node, ast.Assign):
            places = [target.slice for target in node.targets if isinstance(target, ast.Subscript)]
            return any(isinstance(place, ast.Constant) and place.value == name for place in places)
        return False

    return matches


def is_half_precision(node: ast.AST) -> bool:
    """Return whether a node is torch.bfloat16, torch.float16, or the method of a tensor that converts to them."""
    return isinstance(node, ast.Attribute) and node.attr in ("bfloat16", "float16", "half")


def is_freezing(node: ast.AST) -> bool:
    """Return whether a node is `… .requires_grad = False` or `… .requires_grad_(False)`."""
    if isinstance(node, ast.Assign):
        targets = [target for target in node.targets if isinstance(target, ast.Attribute)]
        # `p.requires_grad = "lora" in name` freezes some of them.
        is_off = not isinstance(node.value, ast.Constant) or node.value.value is False
        return is_off and any(target.attr == "requires_grad" for target in targets)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "requires_grad_":
        values = [*node.args, *(keyword.value for keyword in node.keywords)]
        return any(_is_constant(value, value=False) for value in values)
    return False


def _is_constant(node: ast.AST, *, value: bool) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


def _nodes(file: Path) -> Iterator[ast.AST]:
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError):
        return iter(())
    return ast.walk(tree)

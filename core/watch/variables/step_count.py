"""How many steps loops make together: read from their source and variables."""

import ast
import math
from argparse import Namespace
from collections.abc import Mapping, Sequence
from functools import lru_cache
from types import CodeType, ModuleType, SimpleNamespace
from typing import Any

from tui_lab.core.watch.code.call_places import name_of, parsed_source
from tui_lab.core.watch.code.running_loops import LoopExit
from tui_lab.core.watch.variables.loops import Loop
from tui_lab.core.watch.variables.plain_values import NotPlain, length_of, value_of

_PROGRESS_BARS = ("tqdm", "trange", "track")


class StepCount:
    """The number of steps of loops, the outermost first. Raises NotPlain where it is not certain.

    before: the counts at the first step. n_begun: the steps from then to now.
    """

    def __init__(self, loops: Sequence[Loop], before: Mapping[str, int], n_begun: int, *, is_late: bool) -> None:
        self._is_late = is_late
        self._loops = loops
        self._before = before
        self._n_begun = n_begun
        self._stored: dict[CodeType, tuple[tuple[str, ast.stmt], ...]] = {}
        for loop in loops:
            self._stored.setdefault(loop.code, loop.source.stores)  # The outermost loop contains the others.

    @property
    def total(self) -> float:
        """The number of steps, from the first one on."""
        inner = self._loops[-1]
        limits = [self._limit(loop) for loop in self._loops]
        n_passes = math.prod(self._passes(loop) for loop in self._loops[:-1])
        whole = n_passes * self._steps_of_a_pass(inner)
        ends = [limit for limit, _ in limits if limit is not None]
        if not ends or min(ends) >= whole:
            if math.isinf(whole):
                raise NotPlain("no end")
            return whole
        if len(self._loops) == 1 or any(limit == min(ends) and all_end for limit, all_end in limits):
            return min(ends)
        if all(limit == min(ends) for limit, _ in limits):
            return min(ends)
        raise NotPlain("a loop that begins again")

    def _passes(self, loop: Loop) -> float:
        """Return how often an outer loop runs its body, which must make the call every time."""
        if not loop.source.is_certain:
            raise NotPlain("a condition")
        n_passes, index = self._range(loop, self._before)
        if index not in (None, 0):
            raise NotPlain("begun before the first step")
        return n_passes

    def _steps_of_a_pass(self, loop: Loop) -> float:
        """Return how many steps the innermost loop makes in one pass of the others."""
        n_passes, first = self._range(loop, self._before)
        _, now = self._range(loop, loop.variables)
        if self._is_late and first is not None and now is not None:
            first -= 1
            now -= 1
        if loop.source.is_certain and first is not None and now is not None and now - first != self._n_begun:
            raise NotPlain("several steps a pass")
        if loop.source.is_certain:
            if not first:
                return n_passes
            if len(self._loops) == 1:
                return n_passes - first
        if first is None or now is None or math.isinf(n_passes):
            raise NotPlain("a condition")
        every, rest = divmod(now - first, self._n_begun)
        if every < 1 or rest or n_passes % every or first != every - 1:
            raise NotPlain("irregular steps")
        return n_passes // every

    def _range(self, loop: Loop, counts: Mapping[str, Any]) -> tuple[float, int | None]:
        """Return the number of passes of a loop, and the index of one from its counter; None if there is none."""
        node = loop.source.node
        if isinstance(node, ast.While):
            return math.inf, None
        values, first, step, target = self._counted(loop, node.iter, node.target)
        if isinstance(target, ast.Name) and self._n_stores(loop, target.id) == 1:
            value = counts.get(target.id)
            if type(value) is int:
                return values, (value - first) // step
        return values, None

    def _counted(self, loop: Loop, values: ast.expr, target: ast.expr) -> tuple[float, int, int, ast.expr | None]:
        """Return the number of passes of a `for`; and the first value, the step and the variable of its counter."""
        if isinstance(values, ast.Call):
            name = name_of(values.func)
            if name == "enumerate" and values.args:
                n, *_ = self._counted(loop, values.args[0], target)
                start = values.args[1] if len(values.args) > 1 else None
                first = 0 if start is None else int(self._constant(loop, start))
                counter = target.elts[0] if isinstance(target, ast.Tuple) else None
                return n, first, 1, counter
            if name == "count":
                return math.inf, 0, 1, None
            if name == "trange" or (name in _PROGRESS_BARS and values.args):
                inner = values.args[0] if name != "trange" else _called("range", values.args)
                return self._counted(loop, inner, target)
        items = self._constant(loop, values)
        if type(items) is range:
            return len(items), items.start, items.step, target
        return length_of(items), 0, 1, None

    def _constant(self, loop: Loop, expression: ast.expr) -> Any:
        """Return the value of an expression whose variables no running loop changes."""
        for node in ast.walk(expression):
            if isinstance(node, ast.Name | ast.Attribute | ast.Subscript) and self._n_stores(loop, ast.unparse(node)):
                raise NotPlain(ast.unparse(expression))
            if isinstance(node, ast.Name) and node.id in _set_by_functions(loop.source.file):
                raise NotPlain(ast.unparse(expression))
        return value_of(expression, loop.variables)

    def _n_stores(self, loop: Loop, name: str) -> int:
        return sum(name == stored for stored, _ in self._stored[loop.code])

    def _limit(self, loop: Loop) -> tuple[float | None, bool]:
        """Return after how many steps a loop ends by itself, None if it does not; and whether all loops end then."""
        steps: list[tuple[float, bool]] = []
        node = loop.source.node
        if isinstance(node, ast.While):
            head = LoopExit(node.lineno, (ast.UnaryOp(ast.Not(), node.test),), leaves_function=False)
            steps += self._steps_to(loop, head)
        for each in loop.source.exits:
            steps += self._steps_to(loop, each)
        if not steps:
            return None, False
        first = min(steps)[0]
        ends_all = len({each.code for each in self._loops}) == 1 and any(all_end for n, all_end in steps if n == first)
        return first, ends_all

    def _steps_to(self, loop: Loop, end: LoopExit) -> list[tuple[float, bool]]:
        """Return the steps until an exit is taken, with its `leaves_function`; empty if it never is."""
        open_tests = []
        for test in (part for each in end.tests for part in _conjunction(each)):
            try:
                if not self._constant(loop, test) and not _asks_object(test, loop.variables):
                    return []
            except NotPlain:
                open_tests.append(test)
        if len(open_tests) != 1:
            raise NotPlain("an exit under several conditions" if open_tests else "an exit")
        return [(self._steps_to_limit(loop, open_tests[0], end.line), end.leaves_function)]

    def _steps_to_limit(self, loop: Loop, test: ast.expr, line: int) -> float:
        """Return the steps until a counter of steps reaches the limit that a test compares it with."""
        if self._is_late:
            raise NotPlain("the order of the step and the test")
        counter, is_strict, limit = self._comparison(loop, test)
        now = value_of(counter, loop.variables)
        name = ast.unparse(counter)
        if type(now) is not int or now - self._before.get(name, now) != self._n_begun:
            raise NotPlain("not a counter of steps")
        stores = [node for stored, node in self._stored[loop.code] if stored == name]
        if len(stores) != 1 or not _adds_one(stores[0], name):
            raise NotPlain("not a plain counter")
        step = loop.source.line
        added = stores[0].lineno
        at_least = math.floor(limit) + 1 if is_strict else math.ceil(limit)
        if line > step:
            return self._n_begun + max(0, at_least - now - (step < added <= line)) + 1
        return self._n_begun + max(1, at_least - now + (line < added < step))

    def _comparison(self, loop: Loop, test: ast.expr) -> tuple[ast.expr, bool, float]:
        """Return the counter of a test that becomes true, whether it must exceed its limit, and the limit."""
        is_negated = isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not)
        inner = test.operand if isinstance(test, ast.UnaryOp) else test
        if not isinstance(inner, ast.Compare) or len(inner.ops) != 1:
            raise NotPlain(ast.unparse(test))
        op = type(inner.ops[0])
        right = inner.comparators[0]
        for counter, limit, names in ((inner.left, right, _AS_IS), (right, inner.left, _SWAPPED)):
            try:
                value = self._constant(loop, limit)
            except NotPlain:
                continue
            kind = names.get(op)
            kind = _NEGATED.get(kind) if is_negated else kind
            if kind in (">", ">=", "==") and type(value) in (int, float):
                return counter, kind == ">", float(value)
        raise NotPlain(ast.unparse(test))


_AS_IS: dict[type[ast.cmpop], str] = {
    ast.Gt: ">",
    ast.GtE: ">=",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Eq: "==",
    ast.NotEq: "!=",
}
_SWAPPED: dict[type[ast.cmpop], str] = {**_AS_IS, ast.Gt: "<", ast.GtE: "<=", ast.Lt: ">", ast.LtE: ">="}
_NEGATED: dict[str | None, str] = {"<": ">=", "<=": ">", "!=": "=="}


def whole_numbers(loops: Sequence[Loop]) -> dict[str, int]:
    """Return the whole numbers among the names and attributes that the loops assign to."""
    counts: dict[str, int] = {}
    for loop in loops:
        for name, _ in loop.source.stores:
            try:
                value = value_of(ast.parse(name, mode="eval").body, loop.variables)
            except NotPlain:
                continue
            if type(value) is int:
                counts[name] = value
    return counts


def _called(name: str, arguments: list[ast.expr]) -> ast.Call:
    return ast.Call(ast.Name(name, ast.Load()), arguments, [])


@lru_cache(maxsize=64)
def _set_by_functions(file: str) -> frozenset[str]:
    """Return the global variables that functions of a file assign to."""
    tree = parsed_source(file)
    nodes = ast.walk(tree) if tree is not None else ()
    return frozenset(name for node in nodes if isinstance(node, ast.Global | ast.Nonlocal) for name in node.names)


def _asks_object(test: ast.expr, variables: Mapping[str, Any]) -> bool:
    """Return whether a test depends on the state of an object, as of early stopping; settings have none."""
    for node in ast.walk(test):
        if isinstance(node, ast.Attribute):
            owner = value_of(node.value, variables)
            is_settings = type(owner) in (ModuleType, SimpleNamespace, Namespace, dict)
            is_settings |= any("__dataclass_fields__" in vars(base) for base in type(owner).__mro__)
            if not is_settings:
                return True
    return False


def _conjunction(test: ast.expr) -> list[ast.expr]:
    """Return the conditions that are all true where a test is."""
    match test:
        case ast.BoolOp(op=ast.And(), values=values):
            return [part for value in values for part in _conjunction(value)]
        case ast.UnaryOp(op=ast.Not(), operand=ast.BoolOp(op=ast.Or(), values=values)):
            return [part for value in values for part in _conjunction(ast.UnaryOp(ast.Not(), value))]
    return [test]


def _adds_one(node: ast.stmt, name: str) -> bool:
    """Return whether a statement adds one to a counter, or is a `for` that counts."""
    match node:
        case ast.AugAssign(op=ast.Add(), value=ast.Constant(value=1)) | ast.For():
            return True
        case ast.Assign(value=ast.BinOp(left=left, op=ast.Add(), right=ast.Constant(value=1))):
            return ast.unparse(left) == name
    return False

"""How many steps a script's own loops make, and in which epoch they are: read from their source and variables.

A number is given only where it is certain: not for a loop that something else may end, such as early stopping.
"""

import ast
import math
import re
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import CodeType, FrameType, ModuleType, SimpleNamespace
from typing import Any

from tui_lab.core.watch.code.call_places import name_of, parsed_source
from tui_lab.core.watch.code.running_loops import LoopExit, SourceLoop, running_loops
from tui_lab.core.watch.variables.frames import is_function, locals_of, user_frames, with_callers
from tui_lab.core.watch.variables.plain_values import NotPlain, length_of, value_of

_EPOCH = re.compile(r"(^|_)ep(och)?s?($|_|\d)|epoch", re.IGNORECASE)
_OPTIMIZER = re.compile(r"opt", re.IGNORECASE)
_MODEL = re.compile(r"model|net|module|coder|critic|actor|policy|generator|discriminator|head", re.IGNORECASE)
_CALLED_ONCE = frozenset({
    "absl", "accelerate", "argh", "click", "contextlib", "fire", "functools", "hydra", "jsonargparse", "plac", "runpy",
    "simple_parsing", "torch", "tui_lab", "typer", "tyro"
})  # fmt: skip
"""Packages that call a function of a script once, or make one step of it."""
_PROGRESS_BARS = ("tqdm", "trange", "track")
_MOST_STEPS = 10**12


@dataclass(frozen=True)
class _Loop:
    """A loop that runs, with the variables of its function. name: of the function; code: its own."""

    source: SourceLoop
    variables: Mapping[str, Any]
    name: str
    code: CodeType

    @property
    def place(self) -> tuple[str, int]:
        return self.source.file, self.source.node.lineno


class LoopProgress:
    """Looks at the loops around the first step, and again at a later one. Keeps no variable of the script."""

    def __init__(self, frame: FrameType | None, *, is_late: bool = False) -> None:
        """frame: that of the first step. is_late: whether steps are seen in the pass of the loop after theirs."""
        self._is_late = is_late
        loops = _loops(frame)
        self._places = [loop.place for loop in loops]
        self._counts = _counts(loops)
        """The whole numbers that the loops count or are compared with, by text, at the first step."""
        self._epochs = _epochs(loops)

    def steps(self, frame: FrameType | None, n_begun: int) -> int:
        """Return how many steps the loops make together, 0 if it is not certain.

        frame: of a step before which `n_begun` others were made since the first one, which counts.
        """
        loops = _loops(frame)
        if not loops or n_begun < 1 or [loop.place for loop in loops] != self._places:
            return 0
        if _is_called_by_others(frame) or _is_repeated(frame, loops):
            return 0
        try:
            n_steps = _Count(loops, self._counts, n_begun, is_late=self._is_late).total
        except NotPlain:
            return 0
        return int(n_steps) if n_begun < n_steps <= _MOST_STEPS else 0

    def epoch(self, frame: FrameType | None) -> int:
        """Return the epoch of a step, from 0; 0 if it is not known."""
        if self._epochs is None:
            return 0
        for each in with_callers(frame):
            if each.f_code is self._epochs.code:
                variables = locals_of(each) if is_function(each) else each.f_globals
                value = variables.get(self._epochs.name)
                return max(0, value - self._epochs.first) if type(value) is int else 0
        return 0


@dataclass(frozen=True)
class _Epochs:
    """The variable that counts epochs. code: of its function. first: its value in the first one."""

    code: CodeType
    name: str
    first: int


class _Count:
    """The number of steps of loops, the outermost first. Raises NotPlain where it is not certain.

    before: the counts at the first step. n_begun: the steps from then to now.
    """

    def __init__(self, loops: Sequence[_Loop], before: Mapping[str, int], n_begun: int, *, is_late: bool) -> None:
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

    def _passes(self, loop: _Loop) -> float:
        """Return how often an outer loop runs its body, which must make the call every time."""
        if not loop.source.is_certain:
            raise NotPlain("a condition")
        n_passes, index = self._range(loop, self._before)
        if index not in (None, 0):
            raise NotPlain("begun before the first step")
        return n_passes

    def _steps_of_a_pass(self, loop: _Loop) -> float:
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

    def _range(self, loop: _Loop, counts: Mapping[str, Any]) -> tuple[float, int | None]:
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

    def _counted(self, loop: _Loop, values: ast.expr, target: ast.expr) -> tuple[float, int, int, ast.expr | None]:
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

    def _constant(self, loop: _Loop, expression: ast.expr) -> Any:
        """Return the value of an expression whose variables no running loop changes."""
        for node in ast.walk(expression):
            if isinstance(node, ast.Name | ast.Attribute | ast.Subscript) and self._n_stores(loop, ast.unparse(node)):
                raise NotPlain(ast.unparse(expression))
            if isinstance(node, ast.Name) and node.id in _set_by_functions(loop.source.file):
                raise NotPlain(ast.unparse(expression))
        return value_of(expression, loop.variables)

    def _n_stores(self, loop: _Loop, name: str) -> int:
        return sum(name == stored for stored, _ in self._stored[loop.code])

    def _limit(self, loop: _Loop) -> tuple[float | None, bool]:
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

    def _steps_to(self, loop: _Loop, end: LoopExit) -> list[tuple[float, bool]]:
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

    def _steps_to_limit(self, loop: _Loop, test: ast.expr, line: int) -> float:
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

    def _comparison(self, loop: _Loop, test: ast.expr) -> tuple[ast.expr, bool, float]:
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


def _loops(frame: FrameType | None) -> list[_Loop]:
    """Return the loops that run, the outermost first; none if the source of a function is not known."""
    loops: list[_Loop] = []
    for each in user_frames(frame):
        own = running_loops(each)
        if own is None:
            return []
        variables = {**each.f_globals, **locals_of(each)} if is_function(each) else each.f_globals
        loops = [*(_Loop(loop, variables, each.f_code.co_name, each.f_code) for loop in own), *loops]
    return loops


def _counts(loops: Sequence[_Loop]) -> dict[str, int]:
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


def _epochs(loops: Sequence[_Loop]) -> _Epochs | None:
    """Return the variable that counts the epochs of the outermost loop that has one; None if there is none."""
    for loop in loops:
        node = loop.source.node
        if isinstance(node, ast.While):
            names = [each.id for each in ast.walk(node.test) if isinstance(each, ast.Name)]
        else:
            names = [each.id for each in ast.walk(node.target) if isinstance(each, ast.Name)]
        for name in filter(_EPOCH.search, names):
            value = loop.variables.get(name)
            stores = [node for stored, node in loop.source.stores if stored == name]
            if type(value) is int and len(stores) == 1:
                return _Epochs(loop.code, name, 1 if _counts_from_one(node) or value == 1 else 0)
    return None


def _counts_from_one(node: ast.stmt) -> bool:
    """Return whether a `for` goes through a range whose end is a number plus one, as in range(first, n + 1)."""
    calls = [each for each in ast.walk(node.iter) if isinstance(each, ast.Call)] if isinstance(node, ast.For) else []
    return any(
        getattr(each.func, "id", "") in ("range", "trange")
        and len(each.args) > 1
        and isinstance(end := each.args[1], ast.BinOp)
        and isinstance(end.op, ast.Add)
        and getattr(end.right, "value", None) == 1
        for each in calls
    )


def _is_repeated(frame: FrameType | None, loops: Sequence[_Loop]) -> bool:
    """Return whether the script may train in other places, too, or more than once in this one."""
    frames = list(user_frames(frame))
    for file in {each.f_code.co_filename for each in frames}:
        tree = parsed_source(file)
        if tree is None:
            return True
        calls = [each for each in ast.walk(tree) if isinstance(each, ast.Call)]
        if any(len(list(_calls_of(each.f_code, calls))) > 1 for each in frames if is_function(each)):
            return True
        nodes = [loop.source.node for loop in loops if loop.source.file == file]
        steps = [call for call in calls if name_of(call.func) == "step" and _OPTIMIZER.search(_receiver(call))]
        if len({_receiver(call) for call in steps}) < len(steps):
            return True
        if not all(any(node.lineno <= call.lineno <= (node.end_lineno or 0) for node in nodes) for call in steps):
            return True
    return False


def _calls_of(code: CodeType, calls: Sequence[ast.Call]) -> Iterator[ast.Call]:
    """Yield the calls that may be of a function; those of a model's `train` are not."""
    is_method = "." in code.co_qualname.replace("<locals>.", "")
    for call in calls:
        is_attribute = isinstance(call.func, ast.Attribute)
        if name_of(call.func) == code.co_name and is_attribute == is_method and not _MODEL.search(_receiver(call)):
            yield call


def _receiver(call: ast.Call) -> str:
    return ast.unparse(call.func.value) if isinstance(call.func, ast.Attribute) else ""


def _is_called_by_others(frame: FrameType | None) -> bool:
    """Return whether code of a library that may repeat what it calls runs around the step."""
    packages = {str(each.f_globals.get("__name__", "")).partition(".")[0] for each in _library_frames(frame)}
    return not packages <= _CALLED_ONCE


def _library_frames(frame: FrameType | None) -> Iterator[FrameType]:
    users = {id(each) for each in user_frames(frame)}
    return (each for each in with_callers(frame) if id(each) not in users)


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

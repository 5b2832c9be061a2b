"""The variable with which a script's loops count epochs."""

import ast
import re
from collections.abc import Sequence
from dataclasses import dataclass
from types import CodeType, FrameType

from tui_lab.core.watch.variables.frames import is_function, locals_of, with_callers
from tui_lab.core.watch.variables.loops import Loop

_EPOCH = re.compile(r"(^|_)ep(och)?s?($|_|\d)|epoch", re.IGNORECASE)


@dataclass(frozen=True)
class EpochVariable:
    """The variable that counts epochs. code: of its function. first: its value in the first one."""

    code: CodeType
    name: str
    first: int

    def epoch(self, frame: FrameType | None) -> int:
        """Return the epoch of a step, from 0; 0 if the function of the variable does not run around it."""
        for each in with_callers(frame):
            if each.f_code is self.code:
                variables = locals_of(each) if is_function(each) else each.f_globals
                value = variables.get(self.name)
                return max(0, value - self.first) if type(value) is int else 0
        return 0


def epoch_variable(loops: Sequence[Loop]) -> EpochVariable | None:
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
                return EpochVariable(loop.code, name, 1 if _counts_from_one(node) or value == 1 else 0)
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

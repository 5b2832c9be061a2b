"""The loops of a script that run around a step, with their variables."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import CodeType, FrameType
from typing import Any

from tui_lab.core.watch.code.running_loops import SourceLoop, running_loops
from tui_lab.core.watch.variables.frames import is_function, locals_of, user_frames


@dataclass(frozen=True)
class Loop:
    """A loop that runs, with the variables of its function. name: of the function; code: its own."""

    source: SourceLoop
    variables: Mapping[str, Any]
    name: str
    code: CodeType

    @property
    def place(self) -> tuple[str, int]:
        return self.source.file, self.source.node.lineno


def loops_around(frame: FrameType | None) -> list[Loop]:
    """Return the loops that run, the outermost first; none if the source of a function is not known."""
    loops: list[Loop] = []
    for each in user_frames(frame):
        own = running_loops(each)
        if own is None:
            return []
        variables = {**each.f_globals, **locals_of(each)} if is_function(each) else each.f_globals
        loops = [*(Loop(loop, variables, each.f_code.co_name, each.f_code) for loop in own), *loops]
    return loops

"""Results that several checks of one target use."""

from collections.abc import Callable
from functools import wraps
from typing import TypeVar

from tui_lab.core.doctor.findings import NotApplicable, NotJudged
from tui_lab.core.doctor.program.target import Target

R = TypeVar("R")


def once_per_target(function: Callable[[Target], R]) -> Callable[[Target], R]:
    """Decorate a function of a target so that it is computed once for each.

    The result, or the NotJudged or NotApplicable that it raised, is kept as long as the target.
    """
    name = f"{function.__module__}.{function.__qualname__}"

    @wraps(function)
    def once(target: Target) -> R:
        store = vars(target)
        if name not in store:
            try:
                store[name] = function(target)
            except (NotJudged, NotApplicable) as reason:
                store[name] = reason
        result = store[name]
        if isinstance(result, NotJudged | NotApplicable):
            raise result
        kept: R = result
        return kept

    return once

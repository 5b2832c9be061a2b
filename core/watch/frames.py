"""Look at the variables of a running function without keeping them alive."""

import inspect
import sys
from types import FrameType
from typing import Any


def locals_of(frame: FrameType) -> dict[str, Any]:
    """The variables of a function.

    Python before 3.13 keeps a copy of them in the frame once they were looked at, which would keep the tensors of that
    moment until the function returns.
    """
    variables = dict(frame.f_locals)
    if sys.version_info < (3, 13) and frame.f_code.co_flags & inspect.CO_OPTIMIZED:
        frame.f_locals.clear()
    return variables

"""Whether an error comes from the call of a model, or from the doctor itself."""

import traceback
from pathlib import Path

from torch import nn

_DOCTOR = Path(__file__).parent
_MODULE = nn.Module._call_impl.__code__
_WRAPPERS = ("__torch_function__", "__torch_dispatch__")
"""Functions of the doctor through which the operators of a model are called."""


def was_raised_in_call(error: BaseException) -> bool:
    """Return whether the code of the doctor that the error has passed last has called a module."""
    is_in_call = False
    for frame, _ in traceback.walk_tb(error.__traceback__):
        code = frame.f_code
        if code is _MODULE:
            is_in_call = True
        elif _DOCTOR in Path(code.co_filename).parents and code.co_name not in _WRAPPERS:
            is_in_call = False
    return is_in_call

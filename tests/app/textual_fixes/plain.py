"""Run one test on the plain library, where it must fail, and on the workaround."""

from typing import Any

import pytest


def plain_and_fixed(
    plain: Any, fixed: Any, raises: type[Exception] | tuple[type[Exception], ...] = AssertionError
) -> list[Any]:
    """Return two parameters; `raises` is what the defect ends in.

    The plain one is a strict xfail: when the library is fixed, it fails, and the workaround can be deleted.
    """
    defect = pytest.mark.xfail(strict=True, raises=raises, reason="a defect of the library")
    return [pytest.param(plain, id="plain", marks=defect), pytest.param(fixed, id="fixed")]

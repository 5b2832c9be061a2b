"""One thing has no plural, and large numbers have commas."""

import pytest

from tui_lab.util.plural import counted


@pytest.mark.parametrize(("n", "text"), [(0, "0 steps"), (1, "1 step"), (2, "2 steps"), (1_234, "1,234 steps")])
def test_counted(n: int, text: str) -> None:
    assert counted(n, "step") == text

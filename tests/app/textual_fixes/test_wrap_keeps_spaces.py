"""Wrapped text keeps every character."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.text import Text

from tui_lab.app.textual_fixes.wrap_keeps_spaces import wrapped


@pytest.mark.xfail(strict=True, raises=AssertionError, reason="Rich drops the spaces at the ends of lines")
def test_rich_keeps_spaces() -> None:
    lines = Text("ab  cd ").wrap(Console(), 3)
    assert "".join(line.plain for line in lines) == "ab  cd "


@given(st.text("ab \n", max_size=60), st.integers(1, 20))
def test_wrapped_keeps_every_character(text: str, width: int) -> None:
    lines = wrapped(Text(text), width)
    assert "".join(line.plain for line in lines) == text.replace("\n", "")
    assert all(len(line.plain.rstrip()) <= width for line in lines)

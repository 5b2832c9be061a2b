"""The line of the check that runs now is drawn on a terminal only."""

import io
import sys

import pytest

from tui_lab.cli.check_progress import CheckProgress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("stream", [Terminal(), io.StringIO()])
@pytest.mark.parametrize("is_shown", [True, False])
def test_the_check_is_shown_on_a_terminal(stream: io.StringIO, is_shown: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    stream.truncate(0)
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    with CheckProgress(is_shown=is_shown) as progress:
        progress.show("gradient flow")
    assert ("gradient flow" in stream.getvalue()) is (is_shown and stream.isatty())

"""The bar of what is prepared before a training."""

import io
import threading

import pytest

from tui_lab.cli.progress import preparing
from tui_lab.util.errors import ConfigError


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("fails", [False, True])
def test_the_bar_ends_with_what_it_tells_of_even_in_the_middle(fails: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its thread would paint over the training, and over the app of another test."""
    monkeypatch.setattr("sys.stderr", terminal := Terminal())
    before, painters = set(threading.enumerate()), set[threading.Thread]()
    try:
        with preparing() as report:
            assert report is not None
            report("choosing kernels", 0, 1)
            painters = set(threading.enumerate()) - before
            assert painters, "it paints by itself meanwhile"
            if fails:
                raise ConfigError(["no such thing"])
    except ConfigError:
        assert fails
    for painter in painters:  # It is told to end, and does so at its next turn.
        painter.join(10.0)
        assert not painter.is_alive()
    assert "choosing kernels" in terminal.getvalue()


def test_nobody_is_shown_a_bar_who_does_not_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", Terminal())
    with preparing(silent=True) as report:
        assert report is None
    monkeypatch.setattr("sys.stderr", io.StringIO())
    with preparing() as report:
        assert report is None

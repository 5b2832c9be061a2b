"""Charts of reports, which take most of the time of these tests."""

import pytest

from tui_lab.report import chart


@pytest.fixture
def both_widths() -> None:
    """Draw each chart for wide and for narrow screens, as users get it."""


@pytest.fixture(autouse=True)
def one_width(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw each chart for wide screens alone, where a test does not use `both_widths`."""
    if "both_widths" not in request.fixturenames:
        monkeypatch.delitem(chart.FIGURE_WIDTHS, "narrow")


@pytest.fixture
def without_charts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the charts empty, for tests of the text around them."""
    monkeypatch.setattr(chart, "_draw_svg", lambda *parts: "<svg></svg>")

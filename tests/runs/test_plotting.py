"""Pictures of curves: names, colors, scales, and odd values."""

import os
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tui_lab.runs import plotting
from tui_lab.runs.plotting import save_overlay
from tui_lab.util.errors import ConfigError

FALLING = ([1.0, 2.0, 3.0], [3.0, 2.0, 1.0])


def svg(path: Path) -> ET.Element:
    return ET.fromstring(path.read_text("utf-8"))


def texts(path: Path) -> list[str]:
    return [element.text or "" for element in svg(path).iter("{http://www.w3.org/2000/svg}text")]


def test_a_picture_names_its_curves_and_axes(tmp_path: Path) -> None:
    path = tmp_path / "a.svg"
    save_overlay({"lr=0.1": FALLING, "lr=$x$": FALLING}, path, title="T $1 of $2", y="val loss", marks={"best": (3, 1)})
    assert {"lr=0.1", "lr=$x$", "T $1 of $2", "step", "val loss", "best"} <= set(texts(path))


def test_equal_curves_give_equal_files(tmp_path: Path) -> None:
    for name in ("a.svg", "b.svg", "c.png"):
        save_overlay({"a": FALLING}, tmp_path / name, title="T")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")
    assert not list(tmp_path.glob(".writing-*"))
    with pytest.raises(ValueError, match=r"a\.bmp"):
        save_overlay({"a": FALLING}, tmp_path / "a.bmp", title="T")


def test_without_matplotlib_the_error_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ConfigError) as caught:
        save_overlay({"a": FALLING}, tmp_path / "a.svg", title="T")
    assert caught.value.code == "unavailable" and "tui-lab[plots]" in str(caught.value)


@pytest.mark.parametrize(
    "series",
    [
        {},
        {
            "none": ([], []),
            "one": ([1.0], [2.0]),
            "not finite": ([1.0, 2.0], [float("nan"), float("inf")]),
            "below zero": ([1.0, 2.0], [-1.0, 1e9]),
            "\x1b[31mred\x00": FALLING,
            "语": FALLING,
        },
        {f"seed={i}": FALLING for i in range(40)},
    ],
)
def test_odd_curves_never_raise(series: dict[str, plotting.Curve], tmp_path: Path) -> None:
    save_overlay(series, tmp_path / "a.svg", title="T")
    assert svg(tmp_path / "a.svg").tag.endswith("svg")


def test_colors_rise_with_numbers_and_differ_otherwise() -> None:
    rates = [f"dropout={i / 10}" for i in range(11)]
    colors = plotting.series_colors(rates)
    assert len(set(colors)) == 11
    brightness = [sum(int(color[i : i + 2], 16) for i in (1, 3, 5)) for color in colors]
    assert brightness[0] < brightness[5] < brightness[10]
    assert plotting.series_colors(rates[::-1]) == colors[::-1], "the number counts, not the order"
    assert len(set(plotting.series_colors(["adam", "sgd", "muon"]))) == 3
    assert plotting.trailing_number("lr=1e-3") == 1e-3 and plotting.trailing_number("adam") is None


def test_two_decades_make_the_axis_logarithmic() -> None:
    assert plotting.spans_decades([0.01, 1.0]) and not plotting.spans_decades([0.011, 1.0])
    assert not plotting.spans_decades([0.0, 1.0]) and not plotting.spans_decades([])


@given(st.lists(st.floats(0, 1), max_size=16).map(sorted))
def test_labels_keep_their_distance_and_order(heights: list[float]) -> None:
    placed = plotting.spread(heights)
    assert all(b - a > plotting.LABEL_HEIGHT - 1e-9 for a, b in zip(placed, placed[1:], strict=False))
    assert all(height <= 1.0 for height in placed)
    if all(b - a > plotting.LABEL_HEIGHT for a, b in zip(heights, heights[1:], strict=False)):
        assert placed == heights, "labels with enough room do not move"


def test_a_picture_has_the_permissions_of_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        save_overlay({"a": FALLING}, tmp_path / "a.svg", title="T")
    finally:
        os.umask(before)
    assert (tmp_path / "a.svg").stat().st_mode & 0o777 == 0o640

"""The animation in README.md: its file, and the program that makes it."""

from pathlib import Path

import pytest

from tools import demo
from tools.gif import Caption, Cell, Frame, save_gif

LARGEST_BYTES = 2_000_000


def test_readme_shows_a_small_animation() -> None:
    readme = (Path(demo.__file__).parents[1] / "README.md").read_text("utf-8")
    assert "docs/demo.gif" in readme
    data = demo.FILE.read_bytes()
    assert data.startswith(b"GIF89a") and len(data) < LARGEST_BYTES


def test_gif_has_the_frames_and_their_durations(tmp_path: Path) -> None:
    from PIL import Image

    def frame(text: str, seconds: float) -> Frame:
        return Frame((tuple(Cell(letter, (255, 255, 255), (0, 0, 0)) for letter in text),), Caption("K", "x"), seconds)

    save_gif(tmp_path / "x.gif", [frame("ab", 0.2), frame("⣿▄", 1.5)])
    with Image.open(tmp_path / "x.gif") as picture:
        assert getattr(picture, "n_frames", 1) == 2
        durations = []
        for number in range(2):
            picture.seek(number)
            durations.append(picture.info["duration"])
    assert durations == [200, 1500]


@pytest.mark.slow
async def test_story_ends_with_a_loss_that_falls() -> None:
    frames = await demo.record(steps=30)
    keys = [frame.caption.key for frame in frames]
    assert [key for key in dict.fromkeys(keys) if key] == ["3", "K", "z", "j", "a", "2"]

    def shown(frame: Frame) -> str:
        return "\n".join("".join(cell.text for cell in row) for row in frame.grid)

    assert "Softmax" in shown(frames[keys.index("a")])
    assert "No problems found" in shown(frames[-1]) and "10.82" in shown(frames[-1])

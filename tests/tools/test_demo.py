"""The animations in README.md: their files, and the programs that make them."""

from pathlib import Path

import pytest

from tools import demo, lesson_demo
from tools.gif import Caption, Cell, Frame, save_gif
from tui_lab.core.lessons.load import find_lesson, load_lesson

README = Path(demo.__file__).parents[1] / "README.md"


def shown(frame: Frame) -> str:
    return "\n".join("".join(cell.text for cell in row) for row in frame.grid)


@pytest.mark.parametrize(("file", "largest"), [(demo.FILE, 2_000_000), (lesson_demo.FILE, 1_500_000)])
def test_readme_shows_a_small_animation(file: Path, largest: int) -> None:
    assert f"](docs/{file.name})" in README.read_text("utf-8")
    data = file.read_bytes()
    assert data.startswith(b"GIF89a") and len(data) < largest


def test_recorded_lesson_has_the_steps_that_the_recorder_waits_for() -> None:
    lesson = load_lesson(find_lesson(lesson_demo.LESSON))
    starts = [config.start for config in lesson.configs.values() if config.start is not None]
    assert {config.train.steps for config in starts} == {lesson_demo.STEPS}
    trials = [trial for config in lesson.configs.values() for trial in config.trials]
    assert {config.train.steps for config in trials} == {lesson_demo.TRIAL_STEPS}


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

    assert "Softmax" in shown(frames[keys.index("a")])
    assert "No problems found" in shown(frames[-1]) and "10.82" in shown(frames[-1])


@pytest.mark.slow
async def test_recorded_lesson_goes_from_a_flat_loss_to_the_sentence_to_keep() -> None:
    frames = await lesson_demo.record()
    pictures = [shown(frame) for frame in frames]
    expected = (
        "1/12",
        "measured: 10.82",
        "f cosine schedule",
        "3 steps ago",
        "measured: 9.825",
        "Softmax applied twice",
    )
    first_shown = [next(i for i, picture in enumerate(pictures) if text in picture) for text in expected]
    assert first_shown == sorted(first_shown)
    assert "12/12" in pictures[-1] and "overfit one example" in pictures[-1]

"""Lessons are taken with keys only, in a real terminal, and their runs show what the texts say."""

from pathlib import Path

import pytest

from tests.app.learn.walker import Walker, failed_facts
from tui_lab.core.lessons.load import BUILTIN, lesson_folders

SIZES = ((80, 24), (120, 40))
NEEDS_ANOTHER_TERMINAL = ("6-",)


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES, ids=lambda size: "x".join(map(str, size)))
@pytest.mark.parametrize(
    "folder",
    [folder for folder in lesson_folders(BUILTIN) if not folder.name.startswith(NEEDS_ANOTHER_TERMINAL)],
    ids=lambda folder: folder.name,
)
def test_lesson_is_taken_to_its_end_and_its_runs_show_what_it_says(
    folder: Path, size: tuple[int, int], tmp_path: Path
) -> None:
    progress = Walker(folder, tmp_path, size).walk()
    assert progress.is_finished
    assert progress.n_complete == len(progress.lesson.stages)
    assert not [sentence for stage in progress.lesson.stages for sentence in progress.of(stage.id).failed_facts]
    assert not failed_facts(progress)

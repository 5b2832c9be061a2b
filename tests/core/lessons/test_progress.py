"""Progress in a lesson is kept in its folder of runs."""

import os
from pathlib import Path

import pytest

from tests.core.lessons.example import LESSON, TEXT, write
from tui_lab.core.lessons.load import Lesson, find_lesson, load_lesson
from tui_lab.core.lessons.progress import PROGRESS, Progress, index_to_continue, lessons_folder, load_progress


@pytest.fixture
def lesson(tmp_path: Path) -> Lesson:
    return load_lesson(write(tmp_path / "rates"))


def run(progress: Progress, stage: str, trial: int | None = None) -> str:
    """The name of a new folder that looks like a run."""
    folder = progress.new_run_folder(stage, trial)
    (folder / "config.toml").touch()
    return folder.name


def test_new_progress_begins_at_the_first_stage(lesson: Lesson) -> None:
    progress = load_progress(lesson)
    assert not progress.is_started and progress.stage.id == "see" and progress.n_complete == 0
    assert progress.folder == lessons_folder() / "rates" and not progress.folder.exists()


def test_command_is_short_below_the_working_directory_and_absolute_elsewhere(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    progress = load_progress(load_lesson(find_lesson("6-your-script")))
    stage = progress.lesson.stages[progress.lesson.index("watch")]
    monkeypatch.chdir(tmp_path)
    start = f"cd {progress.folder.relative_to(Path.cwd())} && "
    assert progress.short_command(stage).startswith(start)
    assert progress.command(stage).startswith(f"cd {progress.folder.absolute()} && ")
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    assert progress.short_command(stage) == progress.command(stage)


def test_progress_is_taken_up_again(lesson: Lesson) -> None:
    progress = load_progress(lesson)
    progress.go_to("predict")
    progress.of("see").complete = True
    progress.of("predict").guess = 2.5
    progress.save()
    again = load_progress(lesson)
    assert again.is_started and not again.is_finished
    assert again.stage.id == "predict" and again.n_complete == 1
    assert again.of("predict").guess == 2.5 and again.of("predict").is_answered


def test_current_run_is_the_last_one_started(lesson: Lesson) -> None:
    progress = load_progress(lesson)
    progress.of("see").run = run(progress, "see")
    progress.of("try").trials = [run(progress, "try", 1), run(progress, "try", 2)]
    progress.of("fix").run = run(progress, "fix")
    names = [current.name[:3] for stage in lesson.stages if (current := progress.current_run(stage.id))]
    assert names == ["see", "see", "see", "see", "fix", "fix"]
    assert len(progress.trials_of("try")) == 2


def test_removed_run_is_no_run(lesson: Lesson) -> None:
    progress = load_progress(lesson)
    progress.of("see").run = "see-20260101-000000"
    assert progress.run_of("see") is None and progress.current_run("see") is None


def test_run_of_a_script_is_elsewhere(lesson: Lesson, tmp_path: Path) -> None:
    progress = load_progress(lesson)
    (tmp_path / "runs" / "train").mkdir(parents=True)
    (tmp_path / "runs" / "train" / "config.toml").touch()
    progress.of("see").run = str(tmp_path / "runs" / "train")
    current = progress.current_run("predict")
    assert current is not None and current.path == tmp_path / "runs" / "train"


def test_finished_lesson_can_be_taken_again(lesson: Lesson) -> None:
    progress = load_progress(lesson)
    progress.go_to("keep")
    progress.finish()
    progress.begin_again()
    progress.save()
    again = load_progress(lesson)
    assert again.is_finished and not again.is_started and again.stage.id == "see"


def test_place_says_where_the_student_is(lesson: Lesson) -> None:
    progress = load_progress(lesson)
    assert progress.place == ""
    progress.go_to("try")
    assert progress.place == "stage 3 of 6"
    progress.go_to("keep")
    assert progress.place == "stage 6 of 6"
    progress.finish()
    assert progress.place == "finished"
    progress.go_to("try")
    assert progress.place == "stage 3 of 6", "not every stage is complete"
    for stage in lesson.stages:
        progress.of(stage.id).complete = True
    assert progress.place == "finished", "the student only looks at it again"
    progress.begin_again()
    assert progress.place == "finished"


@pytest.mark.parametrize("content", ["{", "[]", '{"stage": 3}', "\xff"])
def test_damaged_progress_is_set_aside(lesson: Lesson, content: str) -> None:
    folder = lessons_folder() / "rates"
    folder.mkdir(parents=True)
    (folder / PROGRESS).write_bytes(content.encode("latin-1"))
    load_progress(lesson).save()
    assert (folder / "progress.damaged.json").read_bytes() == content.encode("latin-1")
    assert not load_progress(lesson).is_started


def test_stage_that_no_longer_exists_begins_the_lesson(lesson: Lesson) -> None:
    progress = load_progress(lesson)
    progress.content.stage = "removed"
    progress.save()
    assert load_progress(lesson).stage.id == "see"


def test_files_of_a_stage_are_copied_once(tmp_path: Path) -> None:
    terminal = 'id = "fix"\nterminal = { command = "tui-lab watch {folder}/train.py", copy = ["train.py"] }'
    toml = LESSON.replace('id = "fix"', terminal).replace("fix = { set = { faults = [] } }\n", "")
    folder = write(tmp_path / "script", toml, TEXT)
    (folder / "train.py").write_text("lr = 1", encoding="utf-8")
    lesson = load_lesson(folder)
    progress = load_progress(lesson)
    stage = lesson.stages[lesson.index("fix")]
    assert progress.command(stage) == f"tui-lab watch {progress.folder.absolute()}/train.py"
    assert progress.command(lesson.stages[0]) == ""
    progress.copy_files(stage)
    copy = progress.folder / "train.py"
    assert copy.read_text("utf-8") == "lr = 1"
    copy.write_text("lr = 2", encoding="utf-8")
    progress.copy_files(stage)
    assert copy.read_text("utf-8") == "lr = 2"


@pytest.mark.parametrize(
    ("finished", "open_ones", "expected"),
    [
        ({}, {}, 0),
        ({0: 10}, {}, 1),
        ({0: 30}, {2: 20}, 1),
        ({0: 10}, {2: 20}, 2),
        ({2: 10}, {}, 0),
        ({0: 10, 1: 20, 2: 30}, {}, 0),
    ],
)
def test_lesson_to_continue_is_the_latest_or_the_next_one(
    tmp_path: Path, finished: dict[int, int], open_ones: dict[int, int], expected: int
) -> None:
    """finished, open_ones: when each of three lessons was worked on, in seconds, by its position."""
    all_progress = [load_progress(load_lesson(write(tmp_path / name))) for name in ("a", "b", "c")]
    for index, at in (finished | open_ones).items():
        progress = all_progress[index]
        progress.go_to(progress.lesson.stages[-1 if index in finished else 0].id)
        if index in finished:
            progress.finish()
        progress.save()
        os.utime(progress.folder / PROGRESS, (at, at))
    assert index_to_continue(all_progress) == expected


def test_no_lesson_to_continue_in_an_empty_course() -> None:
    assert index_to_continue([]) == 0

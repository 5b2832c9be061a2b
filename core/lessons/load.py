"""Find lessons, and read one from its folder with every problem reported at once, with its file and key."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from tui_lab.core.config import settings
from tui_lab.core.lessons.lesson_file import LESSON, read_lesson_file
from tui_lab.core.lessons.schema import LessonFile, Stage
from tui_lab.core.lessons.stage_configs import ConfigReader, StageConfigs
from tui_lab.core.lessons.stage_text import TEXT, read_texts
from tui_lab.core.lessons.strip_lengths import keep_length_problems, question_length_problems
from tui_lab.util.errors import ConfigError, Problem, nearest

BUILTIN = Path(__file__).parent / "builtin"


@dataclass(frozen=True)
class Lesson:
    """A valid lesson. folder: absolute; texts and configs: by the id of the stage."""

    folder: Path
    file: LessonFile
    texts: Mapping[str, str]
    configs: Mapping[str, StageConfigs]

    @property
    def name(self) -> str:
        """The name of the folder, under which progress is kept."""
        return self.folder.name

    @property
    def title(self) -> str:
        return self.file.title

    @property
    def stages(self) -> tuple[Stage, ...]:
        return self.file.stages

    def index(self, stage_id: str) -> int:
        """Return the position of a stage, from 0. Raises KeyError."""
        for i, stage in enumerate(self.stages):
            if stage.id == stage_id:
                return i
        raise KeyError(stage_id)

    def trial_labels(self, stage_id: str) -> list[str]:
        """Return the labels of the trials of a stage, or of the latest before it that has trials. Raises KeyError."""
        for stage in reversed(self.stages[: self.index(stage_id) + 1]):
            if stage.trials:
                return [trial.label for trial in stage.trials]
        return []


def load_lesson(folder: Path) -> Lesson:
    """Return the lesson in `folder`.

    Raises ConfigError with all of its problems, in which files have the path as given.
    """
    if not settings.is_file(folder / LESSON):
        raise ConfigError.of("not_found", f"not a lesson: it has no {LESSON}", value=str(folder))
    lesson_file = read_lesson_file(folder / LESSON)
    problems = list(_stage_id_problems(lesson_file))
    reader = ConfigReader(folder.absolute())
    configs = {stage.id: reader.read(stage) for stage in lesson_file.stages}
    problems += reader.problems
    problems += question_length_problems(lesson_file)
    problems += keep_length_problems(lesson_file)
    problems = [replace(problem, key=f"{folder / LESSON}: {problem.key}") for problem in problems]
    texts, text_problems = read_texts(folder / TEXT, [stage.id for stage in lesson_file.stages])
    problems += text_problems
    if problems:
        raise ConfigError(problems)
    return Lesson(folder.absolute(), lesson_file, texts, configs)


def list_lessons(folder: Path | None = None) -> list[Lesson]:
    """Return the built-in lessons; or that in `folder`, or those in its folders, by name. Raises ConfigError."""
    place = BUILTIN if folder is None else folder
    if settings.is_file(place / LESSON):
        return [load_lesson(place)]
    lessons = list[Lesson]()
    problems = list[Problem]()
    for path in lesson_folders(place):
        try:
            lessons.append(load_lesson(path))
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)
    if folder is not None and not lessons:
        message = f"no lesson here: neither this folder nor a folder in it has a {LESSON}"
        raise ConfigError.of("not_found", message, value=str(folder))
    return lessons


def lesson_folders(place: Path) -> list[Path]:
    """Return the folders in `place` that hold a lesson, by name: 2-tokens comes before 10-attention."""
    try:
        folders = [path for path in place.iterdir() if settings.is_file(path / LESSON)]
    except OSError:
        return []
    return sorted(folders, key=lambda path: [int(part) if part.isdigit() else part for part in _parts(path.name)])


def _parts(name: str) -> list[str]:
    return re.split(r"(\d+)", name)


def find_lesson(name: str) -> Path:
    """Return the folder of a lesson: a path, or a built-in lesson's name, number, or name without the number.

    Raises ConfigError with the nearest name.
    """
    path = Path(name).expanduser()
    names = {folder.name: folder for folder in lesson_folders(BUILTIN)}
    for full, folder in names.items():
        if name in (full, *full.split("-", 1)):
            return folder
    if settings.is_file(path / LESSON):
        return path
    raise ConfigError.of(
        "unknown_name",
        f"neither a folder with a {LESSON} nor a lesson of tui-lab",
        value=name,
        allowed=", ".join(names),
        suggestion=nearest(name, names, cutoff=0.4),
    )


def _stage_id_problems(lesson: LessonFile) -> Iterator[Problem]:
    ids = [stage.id for stage in lesson.stages]
    for stage_id in dict.fromkeys(ids):
        if ids.count(stage_id) > 1:
            yield Problem(code="exists", message="two stages have this id", key=f"stage.{stage_id}.id", value=stage_id)

"""`tui-lab learn`: list, check and export lessons."""

import importlib.resources
import re
from collections.abc import Iterator
from pathlib import Path

from rich.text import Text

from tui_lab.cli.output import console, write, write_json
from tui_lab.core.config import settings
from tui_lab.core.lessons import load, stage_text
from tui_lab.core.lessons.lesson_file import LESSON
from tui_lab.core.lessons.load import Lesson
from tui_lab.core.lessons.progress import Progress, load_progress
from tui_lab.core.lessons.schema import LessonFile
from tui_lab.util.errors import ConfigError, Problem, nearest
from tui_lab.util.exit_codes import DONE, NOT_MET


def folder_of(name: str | None) -> Path:
    """Return the folder of a lesson by its name, number or path; a folder of lessons as it is.

    None: that of our lessons.

    Raises ConfigError.
    """
    if name is None:
        return load.BUILTIN
    path = Path(name).expanduser()
    return path if load.lesson_folders(path) else load.find_lesson(name)


def require_lessons(folder: Path, *, allow_code: bool = False) -> list[Lesson]:
    """Return the lessons in `folder`.

    allow_code: trust the models that they name. Raises ConfigError with all problems.
    """
    lessons = load.list_lessons(folder)
    if allow_code:
        from tui_lab.core.user_code import trust

        for source in {source for lesson in lessons for source in _model_sources(lesson)}:
            trust.allow(source)
    return lessons


def _model_sources(lesson: Lesson) -> Iterator[str]:
    for configs in lesson.configs.values():
        for config in (configs.start, *configs.trials):
            if config is not None and config.model.source:
                yield config.model.source


def show_schema() -> None:
    """Print the JSON schema of a lesson.toml."""
    write_json(LessonFile.model_json_schema(), indent=2)


def show_list(folder: Path, *, as_json: bool) -> None:
    """Print the lessons in `folder` and how far the student is in each."""
    progresses = [load_progress(lesson) for lesson in load.list_lessons(folder)]
    if as_json:
        write_json([_entry(progress) for progress in progresses])
        return
    out = console()
    for progress in progresses:
        lesson = progress.lesson
        title = Text.assemble(
            (lesson.name, "bold"), f"  {lesson.title}, {lesson.file.minutes} min: {progress.place or 'new'}"
        )
        out.print(title, soft_wrap=True)
        out.print(Text(f"  {lesson.file.summary}"), soft_wrap=True)


def _entry(progress: Progress) -> dict[str, object]:
    lesson = progress.lesson
    return {
        "lesson": lesson.name,
        "title": lesson.title,
        "summary": lesson.file.summary,
        "minutes": lesson.file.minutes,
        "stages": len(lesson.stages),
        "complete": progress.n_complete,
        "stage": progress.stage.id if progress.is_started else None,
        "finished": progress.is_finished,
        "folder": str(lesson.folder),
    }


def check(folder: Path, *, seeds: int, as_json: bool, allow_code: bool) -> int:
    """Check the lessons in `folder`; with `seeds`, train their runs with that many seeds. Return the exit code.

    Raises ConfigError with every problem of their files.
    """
    lessons = require_lessons(folder, allow_code=allow_code)
    problems = [problem for lesson in lessons for problem in link_problems(lesson)]
    if problems:
        raise ConfigError(problems)
    if not as_json:
        for lesson in lessons:
            write(f"{lesson.name}: valid, {len(lesson.stages)} stages")
    elif not seeds:
        write_json([{"lesson": lesson.name, "stages": len(lesson.stages)} for lesson in lessons])
    results = [_check_runs(lesson, seed, as_json=as_json) for lesson in lessons for seed in range(seeds)]
    return DONE if all(results) else NOT_MET


def link_problems(lesson: Lesson) -> list[Problem]:
    """Return the links of a lesson that lead to no entry of the glossary."""
    terms = {term.casefold(): term for term in glossary_terms()}
    return [
        Problem(
            code="unknown_name",
            message="not a term of the glossary",
            key=f"{lesson.folder / stage_text.TEXT}: ## {stage_id}",
            value=link.term,
            suggestion=nearest(link.term, terms.values()),
        )
        for stage_id, text in lesson.texts.items()
        for link in stage_text.links(text)
        if link.term.casefold() not in terms
    ]


def glossary_terms() -> list[str]:
    """Return the terms of the app's glossary: the headings, and the bold words that an entry begins with.

    Names in a list, and without what is in parentheses, are terms too.
    """
    text = (importlib.resources.files("tui_lab.app") / "help" / "glossary.md").read_text("utf-8")
    names = re.findall(r"^#{2,4} +(.+?) *$", text, re.MULTILINE)
    names += re.findall(r"(?:^|(?<=[.)] ))\*\*(.+?)\*\*:", text, re.MULTILINE)
    names += [name.partition(" (")[0] for name in names]
    return [term for name in names for term in dict.fromkeys((name, *re.split(r", *", name)))]


def _check_runs(lesson: Lesson, seed: int, *, as_json: bool) -> bool:
    """Train the runs of a lesson and print what happened at each stage. Return whether all is as the lesson says."""
    from tui_lab.core.lessons.check_runs import check_runs

    is_right = True
    seconds = 0.0
    if not as_json:
        write(f"{lesson.name}, every seed + {seed}:" if seed else f"{lesson.name}, the seeds of its configs:")
    for result in check_runs(lesson, seed):
        is_right = is_right and result.is_right
        seconds += result.wait
        if as_json:
            write_json(
                {
                    "lesson": lesson.name,
                    "seed": seed,
                    "stage": result.stage.id,
                    "seconds": round(result.seconds, 3),
                    "wait": round(result.wait, 3),
                    "facts": [
                        {"fact": fact.sentence, "holds": fact.holds, "values": list(fact.values)}
                        for fact in result.facts
                    ],
                    "problems": list(result.problems),
                }
            )
            continue
        write(f"  {result.stage.id}: {result.wait:.1f} s to wait, {result.seconds:.1f} s in all")
        for fact in result.facts:
            write(f"    {'✓' if fact.holds else '✗'} {fact.sentence}")
        for problem in result.problems:
            write(f"    ✗ {problem}")
    if not as_json:
        result_text = "everything is as the lesson says" if is_right else "not everything is as the lesson says"
        write(f"  {seconds:.0f} s to wait; {result_text}")
    return is_right


def export(folder: Path, to: Path) -> None:
    """Write what the student did in the lesson in `folder`. Raises ConfigError or RunError."""
    if not settings.is_file(folder / LESSON):
        names = ", ".join(path.name for path in load.lesson_folders(folder))
        raise ConfigError.of("missing", "name one lesson to export", key="LESSON", allowed=names)
    from tui_lab.report.lesson_report import write_lesson_report

    write_lesson_report(load.load_lesson(folder), to)
    write(str(to))

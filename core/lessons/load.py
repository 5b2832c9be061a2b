"""Read a lesson's folder, and check all of it: every problem is reported at once, with its file and key."""

import re
import textwrap
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from tui_lab.core.config import settings
from tui_lab.core.config.schema import Config
from tui_lab.core.lessons.schema import COLUMNS, Fact, LessonFile, Measure, Question, RunStart, Stage, Trial, keys_of
from tui_lab.util import files
from tui_lab.util.errors import ConfigError, LabError, Problem, nearest, shortened

LESSON, TEXT = "lesson.toml", "text.md"
BUILTIN = Path(__file__).parent / "builtin"
TEXT_LINES = 7
"""Lines of a stage's text, of COLUMNS characters."""
ASK_LINES, REASON_LINES, CHOICE_WIDTH = 2, 3, COLUMNS - 4
LARGEST_FILE = 2**20
"""Bytes of a lesson.toml and of a text.md."""
_LINK = re.compile(r"\[([^\]\n]+)\]\(([^)\n]*)\)")
_GLOSSARY = "glossary:"


@dataclass(frozen=True)
class StageConfigs:
    """The configs of a stage. start: of the run that Enter starts, None where it starts none.

    trials: of each trial. current: of the lesson's current run once the stage is done, None where there is none yet or
    where it is the run of a script.
    """

    start: Config | None = None
    trials: tuple[Config, ...] = ()
    current: Config | None = None


@dataclass(frozen=True)
class Link:
    """A link to the glossary. text: as shown; term: the heading of the glossary's entry."""

    text: str
    term: str


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
        """The position of a stage, from 0. Raises KeyError."""
        for i, stage in enumerate(self.stages):
            if stage.id == stage_id:
                return i
        raise KeyError(stage_id)

    def trial_labels(self, stage_id: str) -> list[str]:
        """The labels of the trials of a stage, or of the latest before it that has trials. Raises KeyError."""
        for stage in reversed(self.stages[: self.index(stage_id) + 1]):
            if stage.trials:
                return [trial.label for trial in stage.trials]
        return []


def links(text: str) -> list[Link]:
    """The glossary links of a stage's text, in order."""
    return [
        Link(match[1], match[2].removeprefix(_GLOSSARY))
        for match in _LINK.finditer(text)
        if match[2].startswith(_GLOSSARY)
    ]


def without_links(text: str) -> str:
    """A stage's text as it is shown: links become their text."""
    return _LINK.sub(lambda match: match[1], text)


def load_lesson(folder: Path) -> Lesson:
    """The lesson in `folder`. Raises ConfigError with all of its problems, in which files have the path as given."""
    if not settings.is_file(folder / LESSON):
        raise ConfigError.of("not_found", f"not a lesson: it has no {LESSON}", value=str(folder))
    lesson_file = _read_file(folder / LESSON)
    problems = list(_stage_id_problems(lesson_file))
    reader = _ConfigReader(folder.absolute())
    configs = {stage.id: reader.read(stage) for stage in lesson_file.stages}
    problems += reader.problems
    problems += _question_length_problems(lesson_file)
    problems += _keep_length_problems(lesson_file)
    problems = [replace(problem, key=f"{folder / LESSON}: {problem.key}") for problem in problems]
    texts, text_problems = _read_texts(folder / TEXT, [stage.id for stage in lesson_file.stages])
    problems += text_problems
    if problems:
        raise ConfigError(problems)
    return Lesson(folder.absolute(), lesson_file, texts, configs)


def list_lessons(folder: Path | None = None) -> list[Lesson]:
    """The built-in lessons; or that in `folder`, or those in its folders, by name. Raises ConfigError."""
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
    """The folders in `place` that hold a lesson, by name: 2-tokens comes before 10-attention."""
    try:
        folders = [path for path in place.iterdir() if settings.is_file(path / LESSON)]
    except OSError:
        return []
    return sorted(folders, key=lambda path: [int(part) if part.isdigit() else part for part in _parts(path.name)])


def _parts(name: str) -> list[str]:
    return re.split(r"(\d+)", name)


def find_lesson(name: str) -> Path:
    """The folder of a lesson: a path, or a built-in lesson's name, number, or name without the number.

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


def _read_file(path: Path) -> LessonFile:
    try:
        tables = tomllib.loads(files.read_text(path, LARGEST_FILE))
    except RecursionError as error:
        raise ConfigError.of("unreadable", "not readable as TOML: nested too deeply", key=str(path)) from error
    except (ValueError, OSError) as error:
        raise ConfigError.of("unreadable", f"not readable as TOML: {error}", key=str(path)) from error
    try:
        return LessonFile.model_validate(_flat_settings(tables))
    except ValidationError as error:
        problems: list[Problem] = [
            replace(problem, key=f"{path}: {problem.key}")
            for item in error.errors(include_url=False)
            for problem in _problems_of(item, tables)
        ]
        # An unknown key first: it explains why another one is missing.
        problems.sort(key=lambda problem: problem.code != "unknown_key")
        raise ConfigError(problems) from error


def _flat_settings(tables: Any) -> Any:
    """`tables` in which each table `set` has dotted keys: TOML reads optim.lr without quotes as a table in a table."""
    if isinstance(tables, list):
        return [_flat_settings(item) for item in tables]
    if not isinstance(tables, dict):
        return tables
    return {
        key: dict(_dotted(value)) if key == "set" and isinstance(value, dict) else _flat_settings(value)
        for key, value in tables.items()
    }


def _dotted(table: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _dotted(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _problems_of(item: ErrorDetails, tables: dict[str, Any]) -> list[Problem]:
    """The problems of an error of pydantic; keys name stages by their id."""
    names = tuple(part for part in item["loc"] if isinstance(part, str))
    key = _key(item["loc"], tables)
    cause = item.get("ctx", {}).get("error")
    if isinstance(cause, LabError):
        return [replace(problem, key=".".join(filter(None, (key, problem.key)))) for problem in cause.problems]
    if item["type"] == "extra_forbidden":
        suggestion = nearest(names[-1], keys_of(names[:-1]))
        return [Problem(code="unknown_key", message="unknown key", key=shortened(key), suggestion=suggestion)]
    if item["type"] == "string_pattern_mismatch":
        message = "must be lowercase letters, digits and hyphens"
        return [Problem(code="invalid", message=message, key=key, value=item["input"])]
    return [settings.value_problem(key, item)]


def _key(location: tuple[int | str, ...], tables: dict[str, Any]) -> str:
    """Where a value is: `stage.see.until.step`. A stage without an id, and a list's item, has its number from 1."""
    parts = list[str]()
    value: Any = tables
    for part in location:
        try:
            value = value[part]
        except (KeyError, IndexError, TypeError):
            value = None
        stage_id = value.get("id") if parts == ["stage"] and isinstance(value, dict) else None
        number = str(part + 1) if isinstance(part, int) else part
        parts.append(shortened(stage_id) if isinstance(stage_id, str) and stage_id else number)
    return ".".join(parts)


def _stage_id_problems(lesson: LessonFile) -> Iterator[Problem]:
    ids = [stage.id for stage in lesson.stages]
    for stage_id in dict.fromkeys(ids):
        if ids.count(stage_id) > 1:
            yield Problem(code="exists", message="two stages have this id", key=f"stage.{stage_id}.id", value=stage_id)


def _question_length_problems(lesson: LessonFile) -> Iterator[Problem]:
    for stage in lesson.stages:
        if stage.question is None:
            continue
        for name, text, limit in _question_texts(stage.question):
            lines = len(textwrap.wrap(text, COLUMNS))
            if lines > limit:
                message = f"{lines} lines of {COLUMNS} characters; at most {limit} fit the strip"
                yield Problem(code="too_large", message=message, key=f"stage.{stage.id}.question.{name}")
        for i, choice in enumerate(stage.question.choices, 1):
            if len(choice) > CHOICE_WIDTH:
                message = f"{len(choice)} characters; at most {CHOICE_WIDTH} fit a line of the strip"
                yield Problem(code="too_large", message=message, key=f"stage.{stage.id}.question.choices.{i}")


def _keep_length_problems(lesson: LessonFile) -> Iterator[Problem]:
    for stage in lesson.stages:
        if stage.keep is None:
            continue
        code = stage.keep.code.strip("\n").splitlines()
        for i, line in enumerate(code, 1):
            if len(line) > COLUMNS:
                message = f"line {i} has {len(line)} characters; at most {COLUMNS} fit a line of the strip"
                yield Problem(code="too_large", message=message, key=f"stage.{stage.id}.keep.code")
        lines = len(code) + sum(len(textwrap.wrap(text, COLUMNS)) for text in (stage.keep.sentence, stage.keep.source))
        if lines > TEXT_LINES:
            message = f"{lines} lines with its source and code; at most {TEXT_LINES} fit the strip"
            yield Problem(code="too_large", message=message, key=f"stage.{stage.id}.keep")


def _question_texts(question: Question) -> Iterator[tuple[str, str, int]]:
    yield "ask", question.ask, ASK_LINES
    for i, reason in enumerate(question.reasons, 1):
        yield f"reasons.{i}", reason, REASON_LINES


def _read_texts(path: Path, ids: list[str]) -> tuple[dict[str, str], list[Problem]]:
    """The texts by stage id, each a section `## ID` of text.md, and the problems of the file."""
    try:
        content = files.read_text(path, LARGEST_FILE)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        return {}, [Problem(code="unreadable", message=f"not readable: {reason}", key=str(path))]
    first, *sections = re.split(r"^## +(.*?) *$", content, flags=re.MULTILINE)
    texts = {name: _paragraphs(text) for name, text in zip(sections[::2], sections[1::2], strict=True)}
    problems = list[Problem]()
    for name in texts:
        if name not in ids:
            suggestion = nearest(name, ids)
            problems.append(
                Problem(code="unknown_name", message="no stage has this id", key=f"## {name}", suggestion=suggestion)
            )
    if len(texts) < len(sections) // 2:
        problems.append(Problem(code="exists", message="two sections have the same heading"))
    if any(line.strip() and not line.startswith("# ") for line in first.splitlines()):
        problems.append(Problem(code="invalid", message="there is text before the first ## heading, shown nowhere"))
    for stage_id in ids:
        problems += _text_problems(stage_id, texts.get(stage_id, ""))
    return texts, [replace(problem, key=f"{path}: {problem.key}".removesuffix(": ")) for problem in problems]


def _paragraphs(text: str) -> str:
    """`text` with each paragraph on one line, separated by an empty line; indented lines and lists stay as they are."""
    paragraphs = re.split(r"\n\s*\n", text.strip("\n"))
    return "\n\n".join(
        paragraph if re.search(r"^(?: {4}|[-*] )", paragraph, re.MULTILINE) else " ".join(paragraph.split())
        for paragraph in paragraphs
    ).strip()


def text_lines(text: str) -> list[str]:
    """A stage's text in lines of COLUMNS characters, without links; empty lines between paragraphs are left out."""
    lines = list[str]()
    for line in without_links(text).splitlines():
        lines += textwrap.wrap(line, COLUMNS)
    return lines


def _text_problems(stage_id: str, text: str) -> Iterator[Problem]:
    key = f"## {stage_id}"
    if not text:
        yield Problem(code="missing", message="this stage has no text", key=key)
    n_lines = len(text_lines(text))
    if n_lines > TEXT_LINES:
        message = f"{n_lines} lines of {COLUMNS} characters; at most {TEXT_LINES} fit the strip"
        yield Problem(code="too_large", message=message, key=key)
    for match in _LINK.finditer(text):
        if not match[2].startswith(_GLOSSARY) or match[2] == _GLOSSARY:
            yield Problem(code="invalid", message="only glossary:TERM can be linked", key=key, value=match[0])


@dataclass
class _ConfigReader:
    """Builds the configs of a lesson's stages, one after another, and collects the problems."""

    folder: Path
    current: Config | None = None
    has_run: bool = False
    labels: list[str] = field(default_factory=list)
    """Of the latest trials."""
    trials: dict[str, Config] = field(default_factory=dict)
    """By label; without those whose config cannot be built."""
    problems: list[Problem] = field(default_factory=list)

    def read(self, stage: Stage) -> StageConfigs:
        """The configs of the next stage."""
        start = self._start(stage)
        if stage.trials:
            self.labels = [trial.label for trial in stage.trials]
            self.trials = self._trials(stage)
        if stage.diagnose is not None and not self.has_run:
            self._no_run(f"stage.{stage.id}.diagnose")
        self._check_terminal(stage)
        self._check_until(stage)
        self._check_measures(stage)
        return StageConfigs(start, tuple(self.trials.values()) if stage.trials else (), self.current)

    def _start(self, stage: Stage) -> Config | None:
        """The config of the run that the stage starts, which becomes the current one."""
        config: Config | None = None
        if stage.run is not None:
            config = self._build(f"stage.{stage.id}.run", stage.run)
        elif stage.fix is not None:
            key = f"stage.{stage.id}.fix"
            if not self.has_run:
                self._no_run(key)
            elif self.current is not None:
                config = self._with(key, self.current, stage.fix.set)
        if stage.run is not None or stage.fix is not None:
            self.has_run = True
            self.current = config or self.current
        elif stage.terminal is not None and stage.terminal.waits_for == "run":
            self.has_run = True
            self.current = None
        return config

    def _trials(self, stage: Stage) -> dict[str, Config]:
        """The configs of the trials by label."""
        configs = dict[str, Config]()
        for i, trial in enumerate(stage.trials, 1):
            key = f"stage.{stage.id}.trial.{i}"
            if trial.label in configs:
                message = "another trial of the stage has this label"
                self.problems.append(Problem(code="exists", message=message, key=f"{key}.label", value=trial.label))
            config: Config | None = None
            if trial.config:
                config = self._build(key, trial)
            elif not self.has_run:
                self._no_run(key)
            elif self.current is not None:
                config = self._with(key, self.current, trial.set)
            if config is not None:
                configs[trial.label] = config
        return configs

    def _build(self, key: str, start: RunStart | Trial) -> Config | None:
        """The config that `start` names, with its settings."""
        file = self.folder / start.config
        names = [*settings.presets(), *(path.name for path in self.folder.glob("*.toml") if path.name != LESSON)]
        if start.config not in names and not settings.is_file(file):
            problem = Problem(
                code="unknown_name",
                message="neither a file of the lesson's folder nor a preset",
                key=f"{key}.config",
                value=start.config,
                allowed=", ".join(names),
                suggestion=nearest(start.config, names),
            )
            self.problems.append(problem)
            return None
        try:
            config = settings.load(str(file) if settings.is_file(file) else start.config)
        except ConfigError as error:
            self.problems += [
                replace(problem, key=f"{key}.config = {start.config!r}: {problem.key}") for problem in error.problems
            ]
            return None
        return self._with(key, config, start.set)

    def _with(self, key: str, config: Config, values: Mapping[str, Any]) -> Config | None:
        """`config` with other settings, and with the files that it names looked up in the lesson's folder."""
        try:
            config = settings.with_values(config, values)
        except ConfigError as error:
            self.problems += [replace(problem, key=f"{key}.set: {problem.key}") for problem in error.problems]
            return None
        path = config.data.path
        if path != "bundled" and (self.folder / path).exists():
            config = settings.changed(config, "data.path", str(self.folder / path))
        source = config.model.source
        if source and settings.is_file(self.folder / source.rpartition(":")[0]):
            config = settings.changed(config, "model.source", str(self.folder / source))
        return config

    def _check_terminal(self, stage: Stage) -> None:
        for i, name in enumerate(stage.terminal.copies if stage.terminal else (), 1):
            if Path(name).name != name or not settings.is_file(self.folder / name):
                problem = Problem(
                    code="not_found",
                    message="not a file of the lesson's folder",
                    key=f"stage.{stage.id}.terminal.copy.{i}",
                    value=name,
                    suggestion=nearest(name, [path.name for path in self.folder.iterdir()]),
                )
                self.problems.append(problem)

    def _check_until(self, stage: Stage) -> None:
        until = stage.until
        if until is None:
            return
        key = f"stage.{stage.id}.until"
        if not self.has_run:
            self._no_run(key)
        if until.step is not None:
            self._check_step(f"{key}.step", until.step, self.current)
        if until.exact_match_above is not None:
            self._check_metric(f"{key}.exact_match_above", "exact_match", self.current)

    def _check_measures(self, stage: Stage) -> None:
        """Whether the runs have what the stage's facts and question ask for."""
        for i, fact in enumerate(stage.facts, 1):
            key = f"stage.{stage.id}.fact.{i}"
            for config in self._configs_of(key, fact):
                self._check_metric(f"{key}.metric", fact.metric, config)
                self._check_step(f"{key}.step", fact.step, config)
        if stage.question is not None and stage.question.measured is not None:
            self._check_measure(f"stage.{stage.id}.question.measured", stage.question.measured)
        if stage.question is not None and stage.question.draw is not None:
            self._check_measure(f"stage.{stage.id}.question.draw", stage.question.draw)

    def _configs_of(self, key: str, fact: Fact) -> Iterable[Config | None]:
        """The configs of the runs that a fact is about."""
        if fact.trial or fact.runs == "trials":
            if not self.labels:
                name = "trial" if fact.trial else "runs"
                problem = Problem(code="conflict", message="no stage until here has trials", key=f"{key}.{name}")
                self.problems.append(problem)
            elif fact.trial and fact.trial not in self.labels:
                problem = Problem(
                    code="unknown_name",
                    message="not the label of a trial",
                    key=f"{key}.trial",
                    value=fact.trial,
                    allowed=", ".join(self.labels),
                    suggestion=nearest(fact.trial, self.labels),
                )
                self.problems.append(problem)
            return [self.trials[fact.trial]] if fact.trial in self.trials else self.trials.values()
        if not self.has_run:
            self._no_run(key)
        return [self.current]

    def _check_measure(self, key: str, measure: Measure) -> None:
        self._check_metric(f"{key}.metric", measure.metric, self.current)
        self._check_step(f"{key}.step", measure.step, self.current)

    def _check_step(self, key: str, step: int | str, config: Config | None) -> None:
        if config is not None and isinstance(step, int) and step > config.train.steps:
            message = f"the run has only {config.train.steps} steps"
            self.problems.append(Problem(code="conflict", message=message, key=key, value=step))

    def _check_metric(self, key: str, metric: str, config: Config | None) -> None:
        if config is not None and metric == "exact_match" and config.data.task != "reverse":
            message = "only task reverse has an exact match, and the run's task is text"
            self.problems.append(Problem(code="conflict", message=message, key=key, value=metric))

    def _no_run(self, key: str) -> None:
        message = "no run yet: neither this stage nor an earlier one has [stage.run]"
        self.problems.append(Problem(code="conflict", message=message, key=key))

"""The report on a lesson: its texts and questions, the student's answers, and the curves of the student's runs."""

import time
from dataclasses import dataclass
from pathlib import Path

from tui_lab.core.doctor.catalog import CATALOG
from tui_lab.core.lessons.facts import CheckedFact, Measurements, check_fact, measure, right_number
from tui_lab.core.lessons.load import Lesson, without_links
from tui_lab.core.lessons.progress import Progress, StageProgress, load_progress
from tui_lab.core.lessons.schema import Question, Stage
from tui_lab.core.runs.curves import Points, curves
from tui_lab.core.runs.folder import Run
from tui_lab.report.chart import Chart, overlay_chart
from tui_lab.report.render import render
from tui_lab.report.report_data import environment
from tui_lab.report.write import check_target, write_page
from tui_lab.runs.figures import setting_text
from tui_lab.util.errors import RunError


@dataclass(frozen=True)
class Choice:
    """A choice of a question. reason: what the lesson says to it."""

    text: str
    reason: str
    is_right: bool
    is_chosen: bool


@dataclass(frozen=True)
class Answer:
    """A question and what the student answered. number, right_number: of a question of kind number, as text."""

    ask: str
    choices: tuple[Choice, ...]
    number: str
    right_number: str
    is_right: bool | None
    is_given: bool


@dataclass(frozen=True)
class StageReport:
    """What the report shows of a stage. settings: those that the fix changes. sentence: that the student typed."""

    stage: Stage
    paragraphs: tuple[str, ...]
    is_complete: bool
    answer: Answer | None
    chart: Chart | None
    finding: str
    settings: tuple[tuple[str, str], ...]
    sentence: str
    facts: tuple[CheckedFact, ...]


def write_lesson_report(lesson: Lesson, to: Path) -> None:
    """Write what the student did in a lesson. Raises ConfigError or RunError as `write.write_report`, and RunError for
    a lesson that has not been started."""
    check_target(to)
    progress = load_progress(lesson)
    if not progress.is_started and not progress.content.stages:
        message = f"nothing to hand in yet; take the lesson by: tui-lab learn {lesson.name}"
        raise RunError.of("not_found", message, key=lesson.name)
    write_page(to, lesson_report(progress))


def lesson_report(progress: Progress) -> str:
    """Return the HTML page."""
    lesson = progress.lesson
    stages = [_stage_report(progress, stage) for stage in lesson.stages]
    return render(
        "lesson.html",
        lesson=lesson,
        figures=_figures(progress, stages),
        stages=stages,
        environment=environment(),
        created=time.strftime("%Y-%m-%d %H:%M"),
        path=progress.folder,
    )


def _figures(progress: Progress, stages: list[StageReport]) -> list[tuple[str, str]]:
    answers = [report.answer for report in stages if report.answer is not None]
    figures = [("stages complete", f"{progress.n_complete} of {len(stages)}")]
    if answers:
        figures.append(("questions answered", f"{sum(a.is_given for a in answers)} of {len(answers)}"))
        figures.append(("right answers", f"{sum(a.is_right is True for a in answers)} of {len(answers)}"))
    return figures


def _stage_report(progress: Progress, stage: Stage) -> StageReport:
    done = progress.of(stage.id)
    current_run = progress.current_run(stage.id)
    current = None if current_run is None else _measured(current_run)
    trials = [run for run in map(_measured, _latest_trials(progress, stage)) if run is not None]
    labels = progress.lesson.trial_labels(stage.id)
    facts = tuple(check_fact(fact, current, trials, labels) for fact in stage.facts)
    return StageReport(
        stage=stage,
        paragraphs=tuple(without_links(progress.lesson.texts[stage.id]).split("\n\n")),
        is_complete=done.complete,
        answer=None if stage.question is None else _answer(stage.question, done, current),
        chart=_chart(progress, stage),
        finding=_finding_text(done.finding),
        settings=() if stage.fix is None else tuple((key, setting_text(value)) for key, value in stage.fix.set.items()),
        sentence=done.sentence,
        facts=tuple(fact for fact in facts if fact.holds is not None),
    )


def _latest_trials(progress: Progress, stage: Stage) -> list[Run]:
    stages = progress.lesson.stages[: progress.lesson.index(stage.id) + 1]
    return next((runs for each in reversed(stages) if (runs := progress.trials_of(each.id))), [])


def _measured(run: Run) -> Measurements | None:
    try:
        return measure(run.events())
    except RunError:
        return None


def _answer(question: Question, done: StageProgress, current: Measurements | None) -> Answer:
    choices = tuple(
        Choice(text, reason, is_right=number == question.right, is_chosen=number == done.choice)
        for number, (text, reason) in enumerate(zip(question.choices, question.reasons, strict=True), 1)
    )
    right = None if question.kind == "choice" else right_number(question, current)
    return Answer(
        ask=question.ask,
        choices=choices,
        number="" if done.guess is None else f"{done.guess:g}",
        right_number="" if right is None else f"{right:.4g}",
        is_right=done.right,
        is_given=done.is_answered,
    )


def _finding_text(code: str) -> str:
    entry = next((entry for name, entry in CATALOG.items() if name == code), None)
    return code if entry is None else f"{code}: {entry.meaning}"


def _chart(progress: Progress, stage: Stage) -> Chart | None:
    """The curves of the runs that a stage started, and of the run before where the stage shows it."""
    series = dict[str, Points]()
    run = progress.run_of(stage.id)
    trials = progress.trials_of(stage.id)
    before = _run_before(progress, stage) if trials or stage.keeps_last else None
    if before is not None:
        series |= _curves_of(before, "before")
    if run is not None:
        series |= _curves_of(run, "this run")
    labels = [trial.label for trial in stage.trials]
    for i, trial in enumerate(trials):
        series |= _curves_of(trial, labels[i] if i < len(labels) else trial.name)
    if run is None and not trials:
        return None
    series |= _guess(progress, stage)
    if not any(points[0] for points in series.values()):
        return None
    chart = overlay_chart(series, label="loss, nats", from_zero=True)
    # Each chart of the page has colors of its own.
    return Chart(chart.svg, chart.style.replace(":root", f"#stage-{stage.id}"))


def _run_before(progress: Progress, stage: Stage) -> Run | None:
    i = progress.lesson.index(stage.id)
    return progress.current_run(progress.lesson.stages[i - 1].id) if i else None


def _curves_of(run: Run, name: str) -> dict[str, Points]:
    """The loss and, where it was measured more than once, the validation loss of a run; none of a damaged run."""
    try:
        run_curves = curves(run.downsampled().events())
    except RunError:
        return {}
    series = {name: run_curves.train}
    if len(run_curves.validation[0]) > 1:
        series[f"{name}, validation"] = run_curves.validation
    if run_curves.chance is not None and run_curves.train[0]:
        first, last = run_curves.train[0][0], run_curves.train[0][-1]
        series["uniform loss, ln V"] = ((first, last), (run_curves.chance, run_curves.chance))
    return series


def _guess(progress: Progress, stage: Stage) -> dict[str, Points]:
    """The guess of this stage, or of the one before if that started no run."""
    i = progress.lesson.index(stage.id)
    for each in reversed(progress.lesson.stages[max(0, i - 1) : i + 1]):
        guess = progress.of(each.id).guess
        draw = None if each.question is None else each.question.draw
        if guess is not None and draw is not None and draw.metric != "exact_match":
            step = draw.step if isinstance(draw.step, int) else 0
            return {"your guess": ((float(step),), (guess,))}
    return {}

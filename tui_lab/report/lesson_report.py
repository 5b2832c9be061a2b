"""The report on a lesson: its texts and questions, the student's answers, and the curves of the student's runs."""

import time
from dataclasses import dataclass
from pathlib import Path

from tui_lab.core.doctor.catalog import CATALOG
from tui_lab.core.lessons.facts import CheckedFact, Measurements, check_fact, measure, right_number
from tui_lab.core.lessons.load import Lesson
from tui_lab.core.lessons.progress import Progress, StageProgress, load_progress
from tui_lab.core.lessons.schema import Question, Stage
from tui_lab.core.lessons.sentence import split_sentence
from tui_lab.core.lessons.stage_text import without_links
from tui_lab.core.runs.curves import Curves, Points, curves
from tui_lab.core.runs.folder import Run
from tui_lab.report.chart import Backdrop, Chart, overlay_chart
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
    """A question and what the student answered. number, right_number: of a question of kind number, as text.

    is_measured: whether the right number was measured in the student's run.
    """

    ask: str
    choices: tuple[Choice, ...]
    number: str
    right_number: str
    is_measured: bool
    is_right: bool | None
    is_given: bool


@dataclass(frozen=True)
class StageReport:
    """What the report shows of a stage. settings: those that the fix changes.

    sentence: that the student typed, and below it its characters and its tokens. command: for another terminal.
    """

    stage: Stage
    paragraphs: tuple[str, ...]
    is_complete: bool
    answer: Answer | None
    chart: Chart | None
    finding: str
    settings: tuple[tuple[str, str], ...]
    sentence: tuple[str, ...]
    command: str
    facts: tuple[CheckedFact, ...]


def write_lesson_report(lesson: Lesson, to: Path) -> None:
    """Write what the student did in a lesson. Raises ConfigError or RunError as `write.write_report`, and RunError for
    a lesson that has not been started."""
    check_target(to, "--export")
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
        settings=_changed_settings(stage),
        sentence=_sentence_lines(done.sentence),
        command=progress.command(stage),
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
        is_measured=question.measured is not None,
        is_right=done.right,
        is_given=done.is_answered,
    )


def _sentence_lines(sentence: str) -> tuple[str, ...]:
    if not sentence:
        return ()
    split = split_sentence(sentence)
    return sentence, split.characters_line, split.tokens_line


def _changed_settings(stage: Stage) -> tuple[tuple[str, str], ...]:
    if stage.fix is None:
        return ()
    return tuple((key, "none" if value == [] else setting_text(value)) for key, value in stage.fix.set.items())


def _finding_text(code: str) -> str:
    entry = next((entry for name, entry in CATALOG.items() if name == code), None)
    return code if entry is None else f"{code}: {entry.meaning}"


def _chart(progress: Progress, stage: Stage) -> Chart | None:
    """Return the curves of the runs that a stage started, and of the run before where the stage shows it."""
    own = _own_runs(progress, stage)
    series = dict[str, Points]()
    for name, run_curves in own.items():
        series |= _named_curves(run_curves, name)
    if not any(points[0] for points in series.values()):
        return None
    before = progress.run_before(stage.id) if progress.of(stage.id).trials or stage.keeps_last else None
    before_curves = None if before is None else _curves_of(before)
    backdrop = Backdrop(
        ghosts={} if before_curves is None else _named_curves(before_curves, "the run before"),
        guess=_guess(progress, stage),
        uniform_loss=next((run_curves.chance for run_curves in own.values()), None),
    )
    chart = overlay_chart(series, label="loss, nats", backdrop=backdrop)
    # Each chart of the page has colors of its own.
    return Chart(chart.svg, chart.style.replace(":root", f"#stage-{stage.id}"))


def _own_runs(progress: Progress, stage: Stage) -> dict[str, Curves]:
    """Return the curves of the runs that a stage started, by name; those of damaged runs are left out."""
    named = dict[str, Run]()
    if (run := progress.run_of(stage.id)) is not None:
        named["this run"] = run
    labels = [trial.label for trial in stage.trials]
    for i, trial in enumerate(progress.trials_of(stage.id)):
        named[labels[i] if i < len(labels) else trial.name] = trial
    return {name: run_curves for name, run in named.items() if (run_curves := _curves_of(run)) is not None}


def _curves_of(run: Run) -> Curves | None:
    try:
        return curves(run.downsampled().events())
    except RunError:
        return None


def _named_curves(run_curves: Curves, name: str) -> dict[str, Points]:
    """Return the loss and, where it was measured more than once, the validation loss."""
    series = {name: run_curves.train}
    if len(run_curves.validation[0]) > 1:
        series[f"{name}, validation"] = run_curves.validation
    return series


def _guess(progress: Progress, stage: Stage) -> tuple[float, float] | None:
    """Step and value of the guess of this stage, or of the one before if that started no run."""
    i = progress.lesson.index(stage.id)
    earlier = progress.lesson.stages[i - 1] if i else None
    stages = [stage] if earlier is None or earlier.has_action else [stage, earlier]
    for each in stages:
        guess = progress.of(each.id).guess
        draw = None if each.question is None else each.question.draw
        if guess is not None and draw is not None and draw.metric != "exact_match":
            return float(draw.step) if isinstance(draw.step, int) else 0.0, guess
    return None

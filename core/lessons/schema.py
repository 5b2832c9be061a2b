"""The keys of a lesson.toml; docs/guide/lessons.md describes them for teachers."""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, model_validator

from tui_lab.core.doctor.findings import FindingCode
from tui_lab.util.errors import ConfigError, Problem, nearest

Kind = Literal["see", "predict", "try", "look", "diagnose", "fix", "keep"]
PaneName = Literal["config", "loss", "batch", "generation", "events", "doctor", "system", "attention"]
Metric = Literal["loss", "val_loss", "exact_match"]
LN_VOCAB_SIZE = "ln_vocab_size"
MOST_CHOICES = 4
"""One for each of the keys 1 to 4."""
COLUMNS = 76
"""Characters in a line of the lesson's strip, in a terminal of 80 columns."""


def _check_bound(value: Any) -> Any:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    if value == LN_VOCAB_SIZE:
        return value
    if isinstance(value, str):
        message = "not a known value"
        suggestion = nearest(value, [LN_VOCAB_SIZE])
        raise ConfigError.of(
            "unknown_name", message, value=value, allowed=f"a number or {LN_VOCAB_SIZE}", suggestion=suggestion
        )
    raise ConfigError.of("wrong_type", "must be a number", value=value, allowed=f"a number or {LN_VOCAB_SIZE}")


def _check_step(value: Any) -> Any:
    names = ("last", "lowest")
    allowed = "a step from 0, last or lowest"
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0 or value in names:
        return value
    if isinstance(value, str):
        raise ConfigError.of(
            "unknown_name", "not a step", value=value, allowed=allowed, suggestion=nearest(value, names)
        )
    raise ConfigError.of("invalid", "not a step", value=value, allowed=allowed)


Bound = Annotated[float | Literal["ln_vocab_size"], BeforeValidator(_check_bound)]
"""A number, or the natural logarithm of the vocabulary size of the run."""
Step = Annotated[int | Literal["last", "lowest"], BeforeValidator(_check_step)]
"""A number of optimizer steps; 0 is before the first one. "last": at the end so far; "lowest": where it was lowest."""
Settings = dict[str, JsonValue]
"""Values of settings by dotted key."""
Text = Annotated[str, Field(min_length=1)]


class Table(BaseModel):
    """Base of the tables of a lesson."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Measure(Table):
    """A value of a run: `loss` is the mean of the last five steps, except at step 0, where it is that of one step."""

    metric: Metric
    step: Step = "last"


class RunStart(Table):
    """The run that Enter starts. config: a file of the lesson's folder, or a preset's name."""

    config: Text
    set: Settings = {}
    keep_last: bool | None = None
    """Whether the previous run stays in the chart as a gray curve; None: only in a stage of kind fix."""


class Until(Table):
    """What completes a stage: all conditions that are given, of the current run."""

    step: Annotated[int, Field(ge=1)] | None = None
    loss_below: Bound | None = None
    val_loss_below: Bound | None = None
    exact_match_above: Annotated[float, Field(ge=0, lt=1)] | None = None
    ended: bool = False


class Question(Table):
    """A question with choices, or one whose answer is a number.

    right: the number of the right choice, from 1; reasons: what to say to each choice. answer: the right number, or
    measured: the value of the current run that is the right number. tolerance: relative to the right number, or
    absolute where that is 0. draw: where the guess is drawn in the chart.
    """

    ask: Text
    kind: Literal["choice", "number"]
    choices: tuple[Text, ...] = ()
    right: int | None = None
    reasons: tuple[Text, ...] = ()
    answer: Bound | None = None
    measured: Measure | None = None
    tolerance: Annotated[float, Field(gt=0)] = 0.05
    draw: Measure | None = None

    @model_validator(mode="after")
    def _agree(self) -> Self:
        problems = self._choice_problems() if self.kind == "choice" else self._number_problems()
        if problems:
            raise ConfigError(problems)
        return self

    def _choice_problems(self) -> list[Problem]:
        n = len(self.choices)
        if not 2 <= n <= MOST_CHOICES:
            message = f"a question of kind choice has 2 to {MOST_CHOICES} choices"
            return [Problem(code="invalid", message=message, key="choices", value=list(self.choices))]
        problems = []
        if self.right is None:
            problems.append(Problem(code="missing", message="must be set", key="right", allowed=f"1 to {n}"))
        elif not 1 <= self.right <= n:
            message = "not the number of a choice"
            problems.append(
                Problem(code="invalid", message=message, key="right", value=self.right, allowed=f"1 to {n}")
            )
        if len(self.reasons) != n:
            message = f"needs one reason for each of the {n} choices, but has {len(self.reasons)}"
            problems.append(Problem(code="invalid", message=message, key="reasons"))
        return problems + self._unused("answer", "measured", "draw", "tolerance")

    def _number_problems(self) -> list[Problem]:
        problems = self._unused("choices", "right", "reasons")
        if (self.answer is None) == (self.measured is None):
            code: Literal["missing", "conflict"] = "missing" if self.answer is None else "conflict"
            message = "a question of kind number has either answer or measured"
            problems.append(Problem(code=code, message=message, key="answer"))
        if self.draw is not None and not isinstance(self.draw.step, int):
            problems.append(
                Problem(
                    code="invalid",
                    message="the guess is drawn at a step",
                    key="draw.step",
                    value=self.draw.step,
                    allowed="a step from 0",
                )
            )
        return problems

    def _unused(self, *names: str) -> list[Problem]:
        message = f"not used by a question of kind {self.kind}"
        return [Problem(code="conflict", message=message, key=name) for name in names if name in self.model_fields_set]


class Trial(Table):
    """A short run, drawn over the current one. config: instead of that of the current run."""

    label: Text
    config: str = ""
    set: Settings = {}


class Diagnose(Table):
    """Enter asks the doctor. finding: the finding that the text counts on."""

    finding: FindingCode | None = None


class Fix(Table):
    """Enter starts the current run again with other settings; the old curve stays, gray."""

    set: Annotated[Settings, Field(min_length=1)]


class Keep(Table):
    """What to remember: a sentence, its source, and the lines of PyTorch that it is about, if any."""

    sentence: Text
    source: Text
    code: str = ""


class Terminal(Table):
    """A command for another terminal, where `{folder}` stands for the student's folder of this lesson.

    copy: files of the lesson that are copied there first, unless they are there. waits_for: "run", the stage is
    complete when a new run of a script appears, which becomes the current run; "user", when the student confirms.
    """

    command: Text
    copies: Annotated[tuple[str, ...], Field(alias="copy")] = ()
    waits_for: Literal["run", "user"] = "user"


class Sentence(Table):
    """A text field, whose sentence is shown split into characters and tokens. default: what the field holds first."""

    ask: Text
    default: str = ""


class Fact(Table):
    """A claim of the text about the current run or each trial of the latest trials.

    near: the value, within a relative `within`; above and below: bounds that the value keeps. trial: the label of the
    only trial that the claim is about.
    """

    metric: Metric
    step: Step = "last"
    near: Bound | None = None
    within: Annotated[float, Field(gt=0)] = 0.02
    above: Bound | None = None
    below: Bound | None = None
    runs: Literal["current", "trials"] = "current"
    trial: str = ""

    @model_validator(mode="after")
    def _has_bound(self) -> Self:
        if self.near is None and self.above is None and self.below is None:
            raise ConfigError.of("missing", "a fact needs near, above or below", key="near")
        if "within" in self.model_fields_set and self.near is None:
            raise ConfigError.of("conflict", "needs near, the value that it is about", key="within")
        if self.trial and "runs" in self.model_fields_set:
            raise ConfigError.of("conflict", "a fact has either runs or trial", key="trial", value=self.trial)
        return self


_ACTION_TEXTS = {
    "run": "train",
    "trial": "train them",
    "diagnose": "diagnose",
    "fix": "fix",
    "terminal": "done",
    "sentence": "split it",
}


class Stage(Table):
    """One step of a lesson. At most one of run, trials, diagnose, fix, terminal and sentence: what Enter does."""

    id: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$", max_length=40)]
    kind: Kind
    pane: PaneName | None = None
    action: str = ""
    """The text of the Enter key; empty: see `action_text`."""
    run: RunStart | None = None
    until: Until | None = None
    question: Question | None = None
    trials: Annotated[tuple[Trial, ...], Field(alias="trial")] = ()
    diagnose: Diagnose | None = None
    fix: Fix | None = None
    keep: Keep | None = None
    terminal: Terminal | None = None
    sentence: Sentence | None = None
    facts: Annotated[tuple[Fact, ...], Field(alias="fact")] = ()

    @model_validator(mode="after")
    def _one_action(self) -> Self:
        actions = self._actions()
        if len(actions) > 1:
            raise ConfigError.of("conflict", f"a stage has one action, not {' and '.join(actions)}", key=actions[1])
        if self.action and not actions:
            raise ConfigError.of(
                "conflict", "needs run, trial, diagnose, fix, terminal or sentence", key="action", value=self.action
            )
        if self.kind == "keep" and self.keep is None:
            raise ConfigError.of("missing", "a stage of kind keep needs it", key="keep")
        return self

    @property
    def has_action(self) -> bool:
        """Whether Enter does something here."""
        return bool(self._actions())

    @property
    def action_text(self) -> str:
        """The text of the Enter key, or empty where Enter does nothing."""
        if self.action or not self.has_action:
            return self.action
        return _ACTION_TEXTS[self._actions()[0]]

    @property
    def keeps_last(self) -> bool:
        """Whether the curve of the run before the one that starts here stays in the chart."""
        if self.run is not None and self.run.keep_last is not None:
            return self.run.keep_last
        return self.fix is not None or self.kind == "fix"

    def _actions(self) -> list[str]:
        given: dict[str, Any] = {
            "run": self.run,
            "trial": self.trials,
            "diagnose": self.diagnose,
            "fix": self.fix,
            "terminal": self.terminal,
            "sentence": self.sentence,
        }
        return [name for name, value in given.items() if value]


class LessonFile(Table):
    """The content of a lesson.toml. source: whose notebook the lesson follows, shown once."""

    format: Literal[1]
    title: Text
    summary: Text
    minutes: Annotated[int, Field(ge=1, le=600)]
    source: str = ""
    stages: Annotated[tuple[Stage, ...], Field(alias="stage", min_length=1)]


TABLES: dict[tuple[str, ...], type[Table]] = {
    (): LessonFile,
    ("stage",): Stage,
    ("stage", "run"): RunStart,
    ("stage", "until"): Until,
    ("stage", "question"): Question,
    ("stage", "question", "measured"): Measure,
    ("stage", "question", "draw"): Measure,
    ("stage", "trial"): Trial,
    ("stage", "diagnose"): Diagnose,
    ("stage", "fix"): Fix,
    ("stage", "keep"): Keep,
    ("stage", "terminal"): Terminal,
    ("stage", "sentence"): Sentence,
    ("stage", "fact"): Fact,
}
"""The tables of a lesson.toml by the names that lead to them."""


def keys_of(path: tuple[str, ...]) -> list[str]:
    """Return the keys that may stand in the table at `path`, as written in TOML."""
    table = TABLES.get(path)
    return [] if table is None else [info.alias or name for name, info in table.model_fields.items()]

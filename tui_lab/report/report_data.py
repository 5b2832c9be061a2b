"""Gather what a report on a run shows. What is not available is replaced by the reason."""

import importlib.metadata
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from tui_lab.core import events as ev
from tui_lab.core.config.schema import Config
from tui_lab.core.config.script import RunConfig
from tui_lab.core.doctor.findings import Finding
from tui_lab.core.doctor.monitors import Monitors
from tui_lab.core.runs.before_nonfinite import BeforeNonFinite, read_before
from tui_lab.core.runs.catalog import RunRow, row_of
from tui_lab.core.runs.curves import Curves, curves
from tui_lab.core.runs.export import summary_of
from tui_lab.core.runs.folder import Run
from tui_lab.core.runs.summary import Summary
from tui_lab.report.code_section import CodeSection
from tui_lab.runs.listing import last_non_finite
from tui_lab.util.errors import ConfigError, DataError, RunError

if TYPE_CHECKING:
    from tui_lab.core.training.reproducibility import RandomSource
    from tui_lab.data.dataset import Task
    from tui_lab.data.tokenizers import Tokenizer

SAMPLES = 4
"""Held-out examples that the model is prompted with."""
PROMPT_CHARACTERS = 40
NEW_TOKENS = 80
PACKAGES = ("tui-lab", "torch", "numpy", "tiktoken", "safetensors", "matplotlib")


@dataclass(frozen=True)
class Sample:
    """A prompt and the model's reply. answer: the right reply, if there is one. weights: those that replied."""

    prompt: str
    text: str = ""
    answer: str | None = None
    weights: str = ""


@dataclass
class LoggedValue:
    """A value that a script logged, over the whole run."""

    name: str
    last: float
    lowest: float
    highest: float
    times: int = 1

    def update(self, value: float) -> None:
        """Take the next value into account."""
        self.last = value
        self.lowest = min(self.lowest, value)
        self.highest = max(self.highest, value)
        self.times += 1


@dataclass
class LoggedSoFar:
    """What a script logged: every value, and the last text of each name with its step."""

    values: dict[str, LoggedValue] = field(default_factory=dict)
    texts: dict[str, tuple[int, str]] = field(default_factory=dict)

    def update(self, event: ev.Logged) -> None:
        """Take the next event into account."""
        for name, value in event.values.items():
            if name in self.values:
                self.values[name].update(value)
            else:
                self.values[name] = LoggedValue(name, value, value, value)
        self.texts |= {name: (event.step, text) for name, text in event.texts.items()}


@dataclass(frozen=True)
class ReportData:
    """The content of a report.

    samples and sources: a string is the reason why they are not available; None for the run of a script, where only the
    script can build the model. code: None where it was not recorded, and for our trainer.
    """

    name: str
    row: RunRow
    summary: Summary
    config: RunConfig
    curves: Curves
    started: tuple[ev.Started, ...]
    warnings: tuple[ev.Warned | ev.SaveFailed, ...]
    failure: ev.Failed | None
    non_finite: ev.NonFinite | None
    before_non_finite: BeforeNonFinite | None
    findings: tuple[Finding, ...]
    logged: LoggedSoFar
    code: CodeSection | None
    samples: "tuple[Sample, ...] | str | None"
    sources: "tuple[RandomSource, ...] | str | None"
    environment: dict[str, str]
    created: str


def gather(run: Run, prompts: Sequence[str]) -> ReportData:
    """Read a run, and generate samples from `prompts`, by default from the start of held-out examples.

    Raises ConfigError or RunError for a run that cannot be read, and for prompts to the run of a script.
    """
    config = run.config()
    if prompts:
        run.refuse_script("write the report without --prompt")
    monitors = Monitors(config)
    findings: list[Finding] = []
    logged = LoggedSoFar()
    for event in run.events():
        new = monitors.update(event)
        findings = [*(one for one in findings if one.code not in monitors.refuted), *new]
        if isinstance(event, ev.Logged):
            logged.update(event)
    events = run.downsampled().events()
    non_finite = last_non_finite(events)
    task = _prepare_task(config) if isinstance(config, Config) else None
    return ReportData(
        name=run.name,
        row=row_of(run.path, run.name),
        summary=summary_of(run),
        config=config,
        curves=curves(events),
        started=tuple(event for event in events if isinstance(event, ev.Started)),
        warnings=tuple(event for event in events if isinstance(event, ev.Warned | ev.SaveFailed)),
        failure=next((event for event in reversed(events) if isinstance(event, ev.Failed)), None),
        non_finite=non_finite,
        before_non_finite=None if non_finite is None else read_before(run, non_finite),
        findings=tuple(findings),
        logged=logged,
        code=CodeSection.of(run.path),
        samples=_samples(run, config, task, prompts) if isinstance(config, Config) and task is not None else None,
        sources=_randomness(config, task, events) if isinstance(config, Config) and task is not None else None,
        environment=environment(),
        created=time.strftime("%Y-%m-%d %H:%M"),
    )


def environment() -> dict[str, str]:
    """Return the machine and the package versions of this process."""
    from tui_lab.runs.machine import machine

    values = {_title(name): str(value) for name, value in machine().items() if name != "torch"}
    return values | {name: _version(name) for name in PACKAGES}


def _title(name: str) -> str:
    return "memory, GiB" if name == "memory_gib" else name.replace("_", " ")


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _prepare_task(config: Config) -> "Task | str":
    from tui_lab.core.training.task_factory import build_task

    try:
        return build_task(config)
    except DataError as error:
        return f"The data of this run cannot be read: {error}"


def _user_code(config: Config) -> str:
    return f"The model is user code ({config.model.source}), which a report does not run."


def _randomness(config: Config, task: "Task | str", events: Sequence[ev.Event]) -> "tuple[RandomSource, ...] | str":
    """Return the sources of randomness of a run, or why they are not known."""
    from tui_lab.core.training.reproducibility import ledger

    if isinstance(task, str):
        return task
    if config.model.source:
        return _user_code(config)
    try:
        sources = ledger(config, task)
    except (ConfigError, DataError) as error:
        return str(error)
    changed = next((each.step for each in events if _turns_dropout_on(each)), None)
    if config.model.dropout or changed is None:
        return sources
    draws = f"the activations zeroed from step {changed:,} on; before it nothing, as the rate was 0"
    return tuple(replace(source, draws=draws) if source.name == "dropout" else source for source in sources)


def _turns_dropout_on(event: ev.Event) -> bool:
    return isinstance(event, ev.Changed) and event.key == "model.dropout" and bool(event.new)


def _samples(run: Run, config: Config, task: "Task | str", prompts: Sequence[str]) -> tuple[Sample, ...] | str:
    from tui_lab.core.inference.load_model import load_chosen

    if config.model.source:
        return _user_code(config)
    if not prompts and isinstance(task, str):
        return task
    try:
        chosen, model, tokenizer = load_chosen(run)
        weights = f"the {chosen.which} weights, of step {chosen.step:,}"
        samples = [Sample(prompt) for prompt in prompts] if prompts else _held_out(config, task)
        replies = _replies(config, model, tokenizer, [sample.prompt for sample in samples])
        return tuple(
            replace(sample, text=reply, weights=weights) for sample, reply in zip(samples, replies, strict=True)
        )
    except (ConfigError, DataError, RunError) as error:
        return str(error)


def _replies(config: Config, model: Any, tokenizer: "Tokenizer", prompts: Sequence[str]) -> list[str]:
    """Return the most likely reversals of rows of digits, or sampled continuations of texts, with seed 0."""
    from tui_lab.core.inference.generate import generate_batch
    from tui_lab.core.inference.sampling import Sampling

    reverse = config.data.task == "reverse"
    rows = generate_batch(
        model,
        tokenizer,
        prompts,
        max_new_tokens=[config.data.length if reverse else NEW_TOKENS] * len(prompts),
        sampling=Sampling(temperature=0.0 if reverse else 0.8),
    )
    return ["".join(token.text for token in tokens) for tokens in rows]


def _held_out(config: Config, task: "Task | str") -> list[Sample]:
    """Return prompts spread over the held-out examples, which may be one long text."""
    import numpy as np

    from tui_lab.data.tokenizers import decode

    assert not isinstance(task, str)
    n = min(SAMPLES, task.val.n_examples)
    x, _ = task.val.examples(np.linspace(0, task.val.n_examples - 1, n).astype(np.int64))
    if config.data.task == "reverse":
        prompts = [decode(task.tokenizer, row[: config.data.length]) for row in x]
        return [Sample(prompt, answer=prompt[::-1]) for prompt in prompts]
    return [Sample(decode(task.tokenizer, row)[:PROMPT_CHARACTERS]) for row in x]

"""What a report on a run tells, gathered before a line of it is written. What cannot be known says why."""

import importlib.metadata
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tui_lab.core import events as ev
from tui_lab.core.config.schema import Config
from tui_lab.core.doctor.findings import Finding
from tui_lab.core.doctor.monitors import Watcher
from tui_lab.core.runs.catalog import RunRow, row_of
from tui_lab.core.runs.curves import Curves, curves
from tui_lab.core.runs.export import summary_of
from tui_lab.core.runs.folder import Run
from tui_lab.core.runs.summary import Summary
from tui_lab.util.errors import ConfigError, DataError, RunError

if TYPE_CHECKING:
    from tui_lab.core.training.reproducibility import Source
    from tui_lab.data.dataset import Task

SAMPLES = 4
"""Held-out examples that the model is asked to go on from."""
PROMPT_CHARACTERS = 40
NEW_TOKENS = 80
PACKAGES = ("tui-lab", "torch", "numpy", "tiktoken", "safetensors", "matplotlib")


@dataclass(frozen=True)
class Sample:
    """wanted: the right answer, where there is one."""

    prompt: str
    text: str
    wanted: str | None = None


@dataclass(frozen=True)
class Material:
    """samples and sources: what was found, or in words why nothing was."""

    name: str
    row: RunRow
    summary: Summary
    config: Config
    curves: Curves
    started: tuple[ev.Started, ...]
    warnings: tuple[ev.Warned | ev.SaveFailed, ...]
    failure: str
    findings: tuple[Finding, ...]
    samples: "tuple[Sample, ...] | str"
    sources: "tuple[Source, ...] | str"
    environment: dict[str, str]
    made: str


def gather(run: Run, prompts: Sequence[str]) -> Material:
    """Everything on one run. Raises ConfigError or RunError for a run that cannot be read."""
    watcher, findings = Watcher(), list[Finding]()
    for event in run.events():
        findings += watcher.see(event)
    kept, config = run.downsampled().events(), run.config()
    task = _task(config)
    return Material(
        name=run.name,
        row=row_of(run.path, run.name),
        summary=summary_of(run),
        config=config,
        curves=curves(kept),
        started=tuple(event for event in kept if isinstance(event, ev.Started)),
        warnings=tuple(event for event in kept if isinstance(event, ev.Warned | ev.SaveFailed)),
        failure=next((event.message for event in reversed(kept) if isinstance(event, ev.Failed)), ""),
        findings=tuple(findings),
        samples=_samples(run, config, task, prompts),
        sources=_sources(config, task),
        environment=environment(),
        made=time.strftime("%Y-%m-%d %H:%M"),
    )


def environment() -> dict[str, str]:
    """The machine and the versions that make the report."""
    from tui_lab.runs.machine import machine

    here = {name.replace("_", " "): str(value) for name, value in machine().items() if name != "torch"}
    return here | {name: _version(name) for name in PACKAGES}


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _task(config: Config) -> "Task | str":
    """The run's data made ready again, or why not."""
    from tui_lab.core.training.task_factory import build_task

    try:
        return build_task(config)
    except DataError as error:
        return f"The data are not as they were: {error}"


def _sources(config: Config, task: "Task | str") -> "tuple[Source, ...] | str":
    from tui_lab.core.training.reproducibility import ledger

    if isinstance(task, str):
        return task
    if config.model.source:
        return _foreign(config)
    try:
        return ledger(config, task)
    except (ConfigError, DataError) as error:
        return str(error)


def _foreign(config: Config) -> str:
    return f"The model is another's, {config.model.source}, and a report runs nobody's code."


def _samples(run: Run, config: Config, task: "Task | str", prompts: Sequence[str]) -> tuple[Sample, ...] | str:
    """What the model says: after `prompts`, else after the beginnings of held-out examples."""
    from tui_lab.core.inference.load_model import load_model

    if config.model.source:
        return _foreign(config)
    if isinstance(task, str) and not prompts:
        return task
    try:
        model, tokenizer = load_model(run)
        asked = [Sample(prompt, "") for prompt in prompts] if prompts else _held_out(config, task)
        return tuple(Sample(one.prompt, _say(config, model, tokenizer, one.prompt), one.wanted) for one in asked)
    except (ConfigError, DataError, RunError) as error:
        return str(error)


def _say(config: Config, model: Any, tokenizer: Any, prompt: str) -> str:
    """The likeliest reversal of a row of digits, or a drawn continuation of a text, by seed 0."""
    from tui_lab.core.inference.generate import generate
    from tui_lab.core.inference.sampling import Sampling

    reverse = config.data.task == "reverse"
    told = generate(
        model, tokenizer, prompt, max_new_tokens=config.data.length if reverse else NEW_TOKENS,
        sampling=Sampling(temperature=0.0 if reverse else 0.8), n_alternatives=0,
    )  # fmt: skip
    return "".join(made.text for made in told)


def _held_out(config: Config, task: "Task | str") -> list[Sample]:
    import numpy as np

    from tui_lab.data.tokenizers import decode

    assert not isinstance(task, str)
    n = min(SAMPLES, task.val.n_examples)
    # Spread over the held-out part, which may be one long text.
    x, _ = task.val.examples(np.linspace(0, task.val.n_examples - 1, n).astype(np.int64))
    if config.data.task == "reverse":
        rows = [decode(task.tokenizer, row[: config.data.length]) for row in x]
        return [Sample(row, "", row[::-1]) for row in rows]
    return [Sample(decode(task.tokenizer, row)[:PROMPT_CHARACTERS], "") for row in x]

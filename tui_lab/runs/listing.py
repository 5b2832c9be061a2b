"""Select runs for `runs ls`, and show one in `runs show`."""

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tui_lab.core.config import script, settings
from tui_lab.core.config.schema import Config
from tui_lab.core.config.script import ImportedConfig, RunConfig, ScriptConfig, SourceConfig
from tui_lab.core.events import Changed, Event, Failed, Logged, NonFinite, SaveFailed, Started, Stopped, Warned
from tui_lab.core.runs import folder as runs
from tui_lab.core.runs.before_nonfinite import BeforeNonFinite, read_before
from tui_lab.core.runs.catalog import RunRow, find_runs, row_of
from tui_lab.core.runs.code import RecordedCode, read_code
from tui_lab.core.runs.export import summary_of
from tui_lab.core.runs.query import check_captured, ordered, parse_condition, select
from tui_lab.core.runs.summary import Summary
from tui_lab.core.training.checkpoint_names import is_by_hand, n_bytes, step_of
from tui_lab.runs.code_text import recorded_code_text
from tui_lab.runs.event_text import event_text, failure_text, logged_text
from tui_lab.runs.figures import setting_text
from tui_lab.runs.live_changes import settings_texts
from tui_lab.runs.nonfinite_text import before_lines
from tui_lab.runs.summary_text import line, summary_text
from tui_lab.util.errors import RunError

CHOSEN = ("train.matmul", "train.head_rows")
"""Settings that are chosen when a run starts where the user has not set them."""
MAX_WARNINGS = 5
"""Of the last warnings, so many are printed."""


@dataclass(frozen=True)
class Selection:
    """Runs of a folder that meet the conditions, in order. total: runs in the folder."""

    folder: Path
    rows: Sequence[RunRow]
    total: int


def select_runs(folder: Path | None, sort: str, where: Sequence[str]) -> Selection:
    """Return the runs of `folder`, by default the runs folder.

    Raises ConfigError for an unknown key, RunError if the folder does not exist.
    """
    conditions = [parse_condition(text) for text in where]
    if folder is not None and not folder.is_dir():
        raise RunError.of("not_found", "no such folder", key=str(folder))
    root = folder if folder is not None else runs.runs_folder()
    rows = find_runs(root)
    check_captured(rows, [*(condition.key for condition in conditions), sort.removeprefix("-")])
    return Selection(root, ordered(select(rows, conditions), sort), len(rows))


@dataclass(frozen=True)
class RunDetails:
    """One run. changes: the live changes; not_default: the settings that differ from the default.

    logged: the last of each value that a script logged; warnings: a line for each; failure: how the run ended, if it
    failed; non_finite: what became non-finite first, if anything did; before_non_finite: what went before it.
    resumed_at: the step at which it was last resumed.
    checkpoints: those on disk. code: that of a script, if it was recorded.
    """

    row: RunRow
    config: RunConfig
    summary: Summary
    changes: Sequence[Changed]
    not_default: dict[str, Any]
    logged: dict[str, float]
    warnings: Sequence[str]
    failure: Failed | None
    non_finite: NonFinite | None = None
    before_non_finite: BeforeNonFinite | None = None
    checkpoints: Sequence[Path] = ()
    code: RecordedCode | None = None
    resumed_at: int | None = None

    def to_json(self) -> dict[str, Any]:
        return self.summary.to_json() | {
            "state": self.row.state,
            "kind": self.row.kind,
            "tags": list(self.row.tags),
            "note": self.row.note,
            "changed": [change.to_json() for change in self.changes],
            "config": self.config.model_dump(mode="json"),
            "not_default": self.not_default,
            "resumed_at": self.resumed_at,
            "logged": self.logged,
            "warnings": list(self.warnings),
            "failure": self.failure and self.failure.to_json(),
            "non_finite": self.non_finite and self.non_finite.to_json(),
            "before_non_finite": self.before_non_finite and asdict(self.before_non_finite),
            "checkpoints": [
                {"path": str(path), "step": step_of(path), "by_hand": is_by_hand(path), "bytes": n_bytes(path)}
                for path in self.checkpoints
            ],
            "code": self.code and asdict(self.code),
        }

    def text(self) -> str:
        lines = [summary_text(self.summary, script.unit_of(self.config), state=self.row.state)]
        lines += self._state_lines()
        lines += [] if self.resumed_at is None else [line("resumed at", f"step {self.resumed_at:,}")]
        if isinstance(self.config, ImportedConfig):
            lines += _source_lines(self.config.source)
        elif isinstance(self.config, ScriptConfig):
            lines += [line("script", shlex.join(self.config.command)), line("folder", self.config.folder)]
            lines += [] if self.code is None else [line("code", recorded_code_text(self.code))]
        if self.logged:
            lines.append(line("logged last", logged_text(self.logged, {})))
        if self.checkpoints:
            lines.append(line("checkpoints", checkpoints_text(self.checkpoints, self.summary.best_step)))
        if self.row.tags:
            lines.append(line("tags", " ".join(self.row.tags)))
        if self.row.note:
            lines.append(line("note", self.row.note))
        texts = settings_texts(self.not_default, self.changes)
        if isinstance(self.config, Config):
            settings_text = settings_table(texts) or "all settings are at their defaults"
        else:
            settings_text = plain_settings_table(texts)
        lines.append(f"\n{settings_text}\n")
        lines += [f"step {one.step:,}: {one.key} {one.old} → {one.new}" for one in self.changes]
        lines += self.warnings[-MAX_WARNINGS:]
        if self.failure is not None:
            lines.append(failure_text(self.failure))
        if self.non_finite is not None:
            lines.append(event_text(self.non_finite) or "")
        if self.before_non_finite is not None:
            lines += before_lines(self.before_non_finite)
        return "\n".join(lines).rstrip("\n")

    def _state_lines(self) -> list[str]:
        """Return what the summary does not say about the state."""
        states = []
        if self.row.state == "running":
            states.append("running: another process is training it")
        if self.row.state == "paused":
            states.append("paused: the process that trains it waits; resume it in tui-lab app")
        if self.row.kind == "script" and self.summary.parameters is None:
            states.append("the script has not made an optimizer step")
        return [line("state", "; ".join(states))] if states else []


def _source_lines(source: SourceConfig) -> list[str]:
    """Return what a run was imported from."""
    columns = ", ".join(f"{value} from {name}" for value, name in source.columns.items())
    return [
        line("imported from", f"{source.path} ({source.format})"),
        line("SHA-256", source.sha256),
        line("columns", columns),
    ]


def run_details(name: str) -> RunDetails:
    """Read one run. Raises RunError."""
    run = runs.find(name)
    config = run.config()
    events = run.downsampled().events()
    logged: dict[str, float] = {}
    warnings: list[str] = []
    ending: Started | Stopped | Failed | None = None
    resumed_at: int | None = None
    for event in events:
        match event:
            case Logged():
                logged |= event.values
            case Warned() | SaveFailed():
                warnings.append(f"step {event.step:,}: warning: {' '.join(event.message.split())}")
            case Started():
                ending = event
                resumed_at = event.step if event.resumed else None
            case Stopped() | Failed():
                ending = event
    non_finite = last_non_finite(events)
    return RunDetails(
        row=row_of(run.path, run.name),
        config=config,
        summary=summary_of(run),
        changes=[event for event in events if isinstance(event, Changed)],
        not_default=not_default(config),
        logged=logged,
        warnings=warnings,
        failure=ending if isinstance(ending, Failed) else None,
        non_finite=non_finite,
        before_non_finite=None if non_finite is None else read_before(run, non_finite),
        checkpoints=run.saved_checkpoints(),
        code=read_code(run.path),
        resumed_at=resumed_at,
    )


def last_non_finite(events: Iterable[Event]) -> NonFinite | None:
    """Return what became non-finite first since the run was last started or resumed; None if nothing did."""
    last: NonFinite | None = None
    for event in events:
        if isinstance(event, Started):
            last = None
        elif isinstance(event, NonFinite):
            last = event
    return last


def checkpoints_text(paths: Sequence[Path], best_step: int | None) -> str:
    """Return the steps of the checkpoints of a run, and their size on disk."""
    steps: list[str] = []
    for path in paths:
        reasons = ["best"] if step_of(path) == best_step else []
        reasons += ["by hand"] if is_by_hand(path) else []
        steps.append(f"step {step_of(path):,}" + (f" ({', '.join(reasons)})" if reasons else ""))
    return f"{', '.join(steps)}: {sum(map(n_bytes, paths)) / 1e6:,.1f} MB"


def not_default(config: RunConfig) -> dict[str, Any]:
    """Return the settings that differ from the default, as JSON values by dotted key; of a script, all it has.

    Without those that are chosen for the machine where the user has not set them: a run has the chosen ones.
    """
    if not isinstance(config, Config):
        defaults = script.values_of(ScriptConfig())
        return {key: value for key, value in script.known_values(config).items() if defaults.get(key) != value}
    values, defaults = config.model_dump(mode="json"), Config().model_dump(mode="json")
    different = {settings.OPTION + name: value for name, value in config.data.options.items()}
    for key in settings.fields():
        if key in CHOSEN:
            continue
        section, _, name = key.rpartition(".")
        value, default = ((tables[section] if section else tables)[name] for tables in (values, defaults))
        if value != default:
            different[key] = value
    return different


def settings_table(texts: dict[str, str]) -> str:
    """Return a line per setting, with its default."""
    default = Config()
    defaults = {key: f"  (default {setting_text(settings.get(default, key))})" for key in settings.fields()}
    width = max(map(len, texts), default=0)
    # A record can name a change of a setting that this version does not have.
    return "\n".join(f"{key:<{width}}  {text}{defaults.get(key, '')}" for key, text in texts.items())


def plain_settings_table(texts: dict[str, str]) -> str:
    """Return a line per setting, without the defaults, which a script does not have."""
    width = max(map(len, texts), default=0)
    return "\n".join(f"{key:<{width}}  {text}" for key, text in texts.items())

"""The doctor pane: findings before and during training, and the sources of randomness."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Group
from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.message import Message
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from tui_lab.app.keymap import named
from tui_lab.app.panes.pane import Pane
from tui_lab.app.screens.explain import Explain, explained
from tui_lab.app.session.inspector import Inspector
from tui_lab.app.session.messages import CheckStarted, Diagnosed, DiagnosisFailed, DoctorMessage
from tui_lab.app.session.state import LabState
from tui_lab.app.textual_fixes.choices import Choices
from tui_lab.core import commands as cmd
from tui_lab.core.config import settings
from tui_lab.core.config.schema import Config
from tui_lab.core.config.script import is_imported
from tui_lab.core.doctor.findings import Finding, Report
from tui_lab.core.doctor.fixes import fixed
from tui_lab.runs.coverage_table import unexamined_table
from tui_lab.util.escape import printable
from tui_lab.util.plural import counted

if TYPE_CHECKING:
    from tui_lab.core.training.reproducibility import RandomSource
    from tui_lab.core.user_code.external_model import Model

SCRIPT_HINTS = ("K examine", "n two runs")
NOT_CHECKED = "Not checked yet. Press K to diagnose."
NEVER_CHECKED = "This run was imported from a log: there is no program to examine."
MONITORED = "The doctor watches this script. Press K to examine it."
RESTARTED = "The fix is applied in this new run, which is diagnosed as soon as it is open."
NO_PROBLEMS = "No problems found"


@dataclass(frozen=True)
class ListedFinding:
    """step: when a monitor noticed it during training; None if a diagnosis found it. until: when it no longer held."""

    finding: Finding
    step: int | None
    until: int | None = None
    is_of_run_before: bool = False

    def line(self, number: int) -> Text:
        sign = "✗" if self.finding.kind == "finding" else "!"
        when = "" if self.step is None else f"step {self.step:,}: "
        if self.is_of_run_before:
            when = "not fixed yet: "
        if self.until is not None:
            return Text(f"{number}   past, step {self.step:,} to {self.until:,}: {self.finding.title}", "dim")
        return Text.assemble((f"{number} {sign} ", "bold"), when, self.finding.title)

    def details(self) -> Text:
        """Return the evidence, and the fix or when none was needed any more."""
        if self.until is None:
            return explained(self.finding, ("evidence", "fix"))
        return explained(self.finding, ("evidence",)).append(f"past: no longer so at step {self.until:,}", "dim")


class DoctorPane(Pane):
    number = 6
    title = "Doctor"
    help_name = "doctor"
    main = "#findings"
    hints: Sequence[str] = ("K diagnose", "n randomness")
    can_steer = False
    """Whether the run takes live changes now."""

    BINDINGS = named(
        "doctor",
        Binding("a", "apply", "Apply the fix", show=False),
        Binding("n", "randomness", "Sources of randomness", show=False),
        Binding("p", "pin", "Pin all randomness", show=False),
    )

    class Apply(Message):
        """The user wants the fix of a finding."""

        def __init__(self, finding: Finding) -> None:
            super().__init__()
            self.finding = finding

    class Pin(Message):
        """The user wants every source of randomness pinned."""

        def __init__(self, sources: "tuple[RandomSource, ...]") -> None:
            super().__init__()
            self.sources = sources

    def __init__(self, id: str, send: Callable[[cmd.Command], None], compare_runs: Callable[[], None]) -> None:
        """compare_runs: shows whether two runs of the script are the same."""
        super().__init__(id=id)
        self._compare_runs = compare_runs
        self._inspector: Inspector[tuple[RandomSource, ...]] = Inspector(send)
        self._health = NOT_CHECKED
        self._diagnosed: tuple[Finding, ...] = ()
        self._report = Report()
        """The latest; empty before the first."""
        self._is_of_run_before = False
        """Whether the findings are those of the run before, which a fix of another finding has restarted."""
        self._listed: list[ListedFinding] = []
        self._sources: tuple[RandomSource, ...] | None = None
        self._state: LabState | None = None
        self._drawn: object = None
        self._shows_randomness = False

    def keep(self, unfixed: Sequence[Finding]) -> None:
        """List the findings of the run before that are not fixed yet, until this run is diagnosed."""
        self._diagnosed = tuple(unfixed)
        self._is_of_run_before = bool(unfixed)
        self._health = RESTARTED

    @property
    def diagnosed(self) -> Sequence[Finding]:
        """The findings and hints of the latest diagnosis."""
        return self._diagnosed

    def compose(self) -> ComposeResult:
        yield Static(id="health")
        yield Choices(id="findings")
        with VerticalScroll(can_focus=False):
            yield Static(id="evidence")

    def show(self, state: LabState, now: float) -> None:
        self._state = state
        for inspection in self._inspector.drain():
            self._sources = inspection.result
        if state.is_script and self._health == NOT_CHECKED:
            self._health = NEVER_CHECKED if is_imported(state.config) else MONITORED
        drawn = (
            self._health,
            self._diagnosed,
            tuple(state.noticed),
            self._shows_randomness,
            self._sources,
            self.can_steer,
        )
        if drawn != self._drawn:
            self._drawn = drawn
            self.redraw()

    def rewound(self) -> None:
        self._drawn = None

    def has_content(self, state: LabState) -> bool:
        return self._health not in (NOT_CHECKED, MONITORED) or bool(state.noticed) or self._shows_randomness

    def summary(self, state: LabState) -> str:
        if holding := [one for one in state.noticed if one.until is None]:
            return holding[-1].finding.title
        return "press K to diagnose" if self._health in (NOT_CHECKED, MONITORED) else self._health

    def receive(self, message: DoctorMessage) -> None:
        """Take a message of the doctor's thread."""
        match message:
            case CheckStarted(name):
                self._health = f"checking: {name} …"
            case Diagnosed(_, report):
                self._diagnosed = (*report.findings, *report.hints)
                self._is_of_run_before = False
                self._report = report
                self._health = health_text(report)
            case DiagnosisFailed(problem):
                self._health = f"✗ {problem}"

    def redraw(self) -> None:
        if self._state is None:
            return
        style = "bold green" if self._health.startswith(NO_PROBLEMS) else "bold"
        self.put("#health", Text(self._health, style), layout=True)
        self._listed = [
            ListedFinding(finding, None, is_of_run_before=self._is_of_run_before) for finding in self._diagnosed
        ]
        self._listed += [ListedFinding(one.finding, one.step, one.until) for one in self._state.noticed]
        choices = self.query_one("#findings", Choices)
        highlighted = choices.highlighted
        choices.clear_options()
        choices.add_options(Option(listed.line(number)) for number, listed in enumerate(self._listed, 1))
        if self._listed:
            choices.highlighted = min(highlighted or 0, len(self._listed) - 1)
        self._show_details()

    @property
    def selected(self) -> Finding | None:
        """The finding under the cursor."""
        return None if self._selected is None else self._selected.finding

    @property
    def _selected(self) -> ListedFinding | None:
        index = self.query_one("#findings", Choices).highlighted
        return self._listed[index] if index is not None and index < len(self._listed) else None

    def copied(self) -> str:
        """Return the selected finding with its evidence, or the sources of randomness if they are shown."""
        if self._shows_randomness:
            return randomness_text(self._sources).plain
        finding = self.selected
        return "" if finding is None else f"{finding.title} ({finding.code})\n{explained(finding).plain}".rstrip()

    @on(OptionList.OptionHighlighted)
    def _show_details(self) -> None:
        if self._shows_randomness:
            text = randomness_text(self._sources)
        else:
            text = crash_text(self._report.crashes)
            if (listed := self._selected) is not None:
                text.append_text(listed.details())
            elif self._state is not None and is_imported(self._state.config):
                text.append("What its losses show is listed here: a loss that diverges or stays flat.", "dim")
            elif self._state is not None and self._state.is_script:
                text.append(
                    "What it notices is listed here: a loss that diverges or stays flat, slow data.\n"
                    "K: run the script a second time for some updates, without checkpoints, and examine it\n"
                    "n: check whether two runs are the same, and if not, why",
                    "dim",
                )
            else:
                text.append("K: diagnose   n: sources of randomness", "dim")
        unexamined = unexamined_table(self._report)
        text.rstrip()
        has_table = unexamined.row_count and not self._shows_randomness
        self.query_one("#evidence", Static).update(Group(text, Text(), unexamined) if has_table else text)
        self._show_fix_hint()

    def _show_fix_hint(self) -> None:
        """Say on the border what the fix of the selected finding does."""
        if self._state is None:
            return
        config = self._state.trainer_config
        holds = self._selected is not None and self._selected.until is None
        does = holds and self.selected and config and fix_text(config, self.selected, can_steer=self.can_steer)
        fix = [f"a {does}"] if does else []
        details = ["Enter why", "y copy"] if self.selected else []
        self.hints = (*fix, *details, *self._own_hints(self._state))
        self.show_hints()

    def _own_hints(self, state: LabState) -> Sequence[str]:
        if is_imported(state.config):
            return ()
        return SCRIPT_HINTS if state.is_script else DoctorPane.hints

    @on(OptionList.OptionSelected)
    def _explain(self) -> None:
        if (finding := self.selected) is not None:
            self.app.push_screen(Explain(finding))

    def action_apply(self) -> None:
        if self._state is not None and self._state.is_script:
            self.app.notify("The doctor cannot change a script; see the fix, and change it there.")
        elif self._selected is not None and self._selected.until is not None:
            self.app.notify(f"There is nothing to fix: this no longer held at step {self._selected.until:,}.")
        elif (finding := self.selected) is not None:
            self.post_message(self.Apply(finding))

    def action_randomness(self) -> None:
        """Show the sources of randomness at the latest step, or the findings again; of a script, compare two runs."""
        if self._state is not None and self._state.is_script:
            self._compare_runs()
            return
        self._shows_randomness = not self._shows_randomness
        if self._shows_randomness and self._state is not None and self._state.ready is not None:
            self._request_sources(self._state)
        self.redraw()

    def _request_sources(self, state: LabState) -> None:
        assert state.ready is not None
        config = state.trainer_config
        task = state.ready.task
        assert config is not None and task is not None
        step = max(0, state.step - 1)

        def read_sources(model: "Model") -> "tuple[RandomSource, ...]":
            from tui_lab.core.training.reproducibility import ledger

            return tuple(ledger(config, task, step))

        self._inspector.reset()
        self._inspector.request(step, read_sources, 0.0, min_pause=0.0, running=False)

    def action_pin(self) -> None:
        if self._shows_randomness and self._sources is not None:
            self.post_message(self.Pin(self._sources))


def fix_text(config: Config, finding: Finding, *, can_steer: bool) -> str:
    """Return what applying the fix of a finding does; empty if no setting fixes it."""
    new_config = fixed(config, finding)
    if new_config is None:
        return ""
    is_live = can_steer and all(map(settings.is_live, settings.differences(config, new_config)))
    return "fix now" if is_live else "fix and restart"


def health_text(report: Report) -> str:
    """Return a line that sums up a report."""
    n_findings = len(report.findings)
    parts = [report.crash_count] if report.crashed else []
    if n_findings:
        parts.append(counted(n_findings, "finding"))
    elif report.healthy:
        parts.append("Its loop was not examined; no problems in its parts" if report.without_updates else NO_PROBLEMS)
    counts = [f"{len(report.passed)} checks passed"] if report.passed or report.not_judged else []
    counts += [counted(len(report.hints), "hint")] if report.hints else []
    n_waiting = sum(bool(unchecked.waits_for) for unchecked in report.not_judged)
    n_unknown = len(report.not_judged) - n_waiting
    counts += [f"{n_waiting} wait{'s' if n_waiting == 1 else ''} for the fix"] if n_waiting else []
    counts += [f"{n_unknown} not judged"] if n_unknown else []
    return "; ".join(parts) + (f" ({', '.join(counts)})" if counts else "")


def crash_text(crashes: Mapping[str, Sequence[str]]) -> Text:
    """Return a line per error. crashes: the names of the checks that crashed with it."""
    text = Text()
    for error, checks in crashes.items():
        text.append(f"crashed: {', '.join(checks)}: ", "bold red").append(f"{printable(error)}\n")
    return text


def randomness_text(sources: "Sequence[RandomSource] | None") -> Text:
    """Return a line per source of randomness. sources: None while the trainer has not answered."""
    if sources is None:
        return Text("waiting for the trainer …", "dim")
    text = Text()
    for source in sources:
        text.append(*(("pinned ", "green") if source.pinned else ("FREE   ", "bold yellow")))
        text.append(f"{source.name:<15}", "bold")
        text.append(f"{source.fingerprint or '':<13} ", "dim").append(f"{source.seed}\n")
    return text.append("p: pin all   n: back to findings", "dim")

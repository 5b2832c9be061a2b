"""The doctor pane: what was found before training, what was noticed during it, and where chance comes in."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.message import Message
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from tui_lab.app.panes.pane import Pane
from tui_lab.app.screens.explain import Explain, explained
from tui_lab.app.session.buffer import Buffer
from tui_lab.app.session.messages import CheckStarted, Diagnosed, DiagnosisFailed, DoctorMessage
from tui_lab.app.session.state import LabState
from tui_lab.app.textual_fixes.choices import Choices
from tui_lab.core import commands as cmd
from tui_lab.core.doctor.findings import Finding, Report
from tui_lab.util.escape import printable

if TYPE_CHECKING:
    from tui_lab.core.training.reproducibility import RandomSource
    from tui_lab.core.user_code.external_model import Model

UNEXAMINED = "Not checked yet. Press k to diagnose."


@dataclass(frozen=True)
class Told:
    """A finding, and the step at which it was noticed; None: it was found by an examination."""

    finding: Finding
    step: int | None


class DoctorPane(Pane):
    number, title, help_name, main = 6, "Doctor", "doctor", "#findings"

    BINDINGS = [
        Binding("a", "apply", "Apply the fix", show=False),
        Binding("j", "ledger", "Randomness", show=False),
        Binding("p", "pin", "Pin all randomness", show=False),
    ]

    class Apply(Message):
        """The user applies this finding's fix."""

        def __init__(self, finding: Finding) -> None:
            super().__init__()
            self.finding = finding

    class Pin(Message):
        """The person wants every source of randomness pinned."""

        def __init__(self, sources: "tuple[RandomSource, ...]") -> None:
            super().__init__()
            self.sources = sources

    def __init__(self, id: str, send: Callable[[cmd.Command], None]) -> None:
        super().__init__(id=id)
        self._send = send
        self._looks: Buffer[tuple[RandomSource, ...]] = Buffer()
        self._health = UNEXAMINED
        self._examined: tuple[Finding, ...] = ()
        self._crashes: dict[str, list[str]] = {}
        self._told: list[Told] = []
        self._sources: tuple[RandomSource, ...] | None = None
        self._state: LabState | None = None
        self._drawn: object = None
        self._ledger = False

    def compose(self) -> ComposeResult:
        yield Static(id="health")
        yield Choices(id="findings")
        with VerticalScroll(can_focus=False):
            yield Static(id="evidence")

    def show(self, state: LabState, now: float) -> None:
        self._state = state
        for sources in self._looks.drain():
            self._sources = sources
        news = (self._health, self._examined, len(state.noticed), self._ledger, self._sources)
        if news != self._drawn:
            self._drawn = news
            self.redraw()

    def hear(self, message: DoctorMessage) -> None:
        """Show what the doctor's thread reports."""
        match message:
            case CheckStarted(name):
                self._health = f"checking: {name} …"
            case Diagnosed(_, report):
                self._examined = report.findings
                self._crashes = report.crashes
                self._health = _health(report)
            case DiagnosisFailed(words):
                self._health = f"✗ {words}"

    def redraw(self) -> None:
        state = self._state
        if state is None:
            return
        style = "bold green" if self._health.startswith("No problems found") else "bold"
        self.put("#health", Text(self._health, style))
        self._told = [Told(finding, None) for finding in self._examined] + [Told(f, step) for f, step in state.noticed]
        choices = self.query_one("#findings", Choices)
        at = choices.highlighted
        choices.clear_options()
        for number, told in enumerate(self._told, 1):
            where = "" if told.step is None else f"step {told.step:,}: "
            sign = "✗" if told.finding.severity == "error" else "!"
            choices.add_option(Option(Text.assemble((f"{number} {sign} ", "bold"), where, told.finding.title)))
        if self._told:
            choices.highlighted = min(at or 0, len(self._told) - 1)
        self._show_evidence()

    @property
    def chosen(self) -> Finding | None:
        """The finding under the cursor."""
        at = self.query_one("#findings", Choices).highlighted
        return self._told[at].finding if at is not None and at < len(self._told) else None

    @on(OptionList.OptionHighlighted)
    def _show_evidence(self) -> None:
        if self._ledger:
            self.query_one("#evidence", Static).update(self._ledger_text())
        elif (finding := self.chosen) is not None:
            text = explained(finding, ("evidence", "fix"))
            text.append("\nEnter: details   a: apply the fix and diagnose again", "dim")
            self.query_one("#evidence", Static).update(self._crash_text().append_text(text))
        else:
            hint = Text("k: diagnose   j: sources of randomness", "dim")
            self.query_one("#evidence", Static).update(self._crash_text().append_text(hint))

    @on(OptionList.OptionSelected)
    def _explain(self) -> None:
        if (finding := self.chosen) is not None:
            self.app.push_screen(Explain(finding))

    def action_apply(self) -> None:
        if (finding := self.chosen) is not None:
            self.post_message(self.Apply(finding))

    def action_ledger(self) -> None:
        """The sources of randomness, as they stand at the newest step."""
        self._ledger = not self._ledger
        if self._ledger and self._state is not None and self._state.ready is not None:
            self._ask_for_sources(self._state)
        self.redraw()

    def _ask_for_sources(self, state: LabState) -> None:
        assert state.ready is not None and state.config is not None
        config, task, step, put = state.config, state.ready.task, max(0, state.step - 1), self._looks.put

        def look(model: "Model") -> None:
            from tui_lab.core.training.reproducibility import ledger

            put(ledger(config, task, step))

        self._send(cmd.Inspect(look))

    def _crash_text(self) -> Text:
        """The errors that ended checks, a line each."""
        text = Text()
        for error, checks in self._crashes.items():
            text.append(f"crashed: {', '.join(checks)}: ", "bold red").append(f"{printable(error)}\n")
        return text

    def _ledger_text(self) -> Text:
        if self._sources is None:
            return Text("waiting for the trainer …", "dim")
        text = Text()
        for source in self._sources:
            mark = ("pinned ", "green") if source.pinned else ("FREE   ", "bold yellow")
            text.append(*mark).append(f"{source.name:<15}", "bold")
            text.append(f"{source.fingerprint or '':<13} ", "dim").append(f"{source.seed}\n")
        return text.append("p: pin all   j: back to findings", "dim")

    def action_pin(self) -> None:
        if self._ledger and self._sources is not None:
            self.post_message(self.Pin(self._sources))


def _health(report: Report) -> str:
    n = len(report.findings)
    parts = [report.crash_count] if report.crashed else []
    if n:
        parts.append(f"{n} finding{'s' if n > 1 else ''}")
    elif report.healthy:
        parts.append("No problems found")
    counts = [f"{len(report.passed)} checks passed"] if report.passed else []
    counts += [f"{len(report.skipped)} skipped"] if report.skipped else []
    return "; ".join(parts) + (f" ({', '.join(counts)})" if counts else "")

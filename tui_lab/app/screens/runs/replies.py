"""The replies of several runs to one prompt, in columns."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, HorizontalScroll, Vertical, VerticalScroll
from textual.widget import Widget
from textual.widgets import Input, Static

from tui_lab.app.actions import BY_ID, key_of
from tui_lab.app.prompts import first_prompt
from tui_lab.app.screens.runs.marks import MarkedRun
from tui_lab.app.session.messages import ReplyFinished, ReplyStarted, ReplyText
from tui_lab.app.session.multi_run_generation import MultiRunGeneration, Prompt
from tui_lab.app.widgets.input import Field
from tui_lab.core.config.schema import Config
from tui_lab.core.inference.sampling import Sampling
from tui_lab.core.runs.folder import Run
from tui_lab.runs.answers import verdict
from tui_lab.runs.names import short_name
from tui_lab.util.escape import printable

LEAST_COLUMN_WIDTH = 30
"""With more runs than fit, the columns scroll."""


class PromptField(Field):
    BINDINGS = [Binding("enter", "submit", "Generate")]


class RunTitle(Widget):
    """The mark and the name of a run, as much of it as fits."""

    def __init__(self, run: MarkedRun, id: str) -> None:
        super().__init__(id=id)
        self._run = run
        self.styles.height = 1

    def render(self) -> Text:
        mark = self._run.mark
        name = short_name(self._run.row.name, max(8, self.size.width - len(mark.letter) - 1))
        return Text(f"{mark.letter} {name}", f"bold {mark.style}", no_wrap=True)


class RepliesView(Vertical):
    """Call `show_runs`, and `update_replies` regularly."""

    def __init__(self, id: str) -> None:
        super().__init__(id=id)
        self.generation = MultiRunGeneration()
        self._runs: list[MarkedRun] = []
        self._replies: dict[Path, Text] = {}
        self._has_first_prompt = False
        self._prompt = ""

    def compose(self) -> ComposeResult:
        with Horizontal(id="prompt-line"):
            yield Static("prompt ")
            yield PromptField("SOCRATES: What is ", id="one-prompt", placeholder="prompt for all marked runs")
        yield HorizontalScroll(id="columns")

    def on_unmount(self) -> None:
        self.generation.stop()

    def focus_prompt(self) -> None:
        # At once, so that the next keys of a burst are typed.
        self.screen.set_focus(self.query_one(Input))

    def show_runs(self, runs: Sequence[MarkedRun]) -> None:
        """Show a column per run, with its earlier reply if there is one."""
        config = runs[0].row.config if runs else None
        if not self._has_first_prompt and isinstance(config, Config):
            self._has_first_prompt = True
            if config.data.task == "reverse":
                self.query_one(Input).value = first_prompt(config.data)
        columns = [(run.mark, run.row.path) for run in runs]
        changed = columns != [(run.mark, run.row.path) for run in self._runs]
        self._runs = list(runs)
        if changed:
            self._build_columns()

    @work(exclusive=True, group="columns")
    async def _build_columns(self) -> None:
        box = self.query_one("#columns", HorizontalScroll)
        await box.remove_children()
        await box.mount(*map(self._column, self._runs))

    def _column(self, run: MarkedRun) -> Vertical:
        number = run.mark.number
        reply = Static(self._replies.get(run.row.path, Text()), classes=f"reply-{number}")
        column = Vertical(
            RunTitle(run, f"reply-title-{number}"), VerticalScroll(reply, can_focus=False), classes="run-reply"
        )
        column.styles.min_width = LEAST_COLUMN_WIDTH
        return column

    @on(Input.Submitted)
    def _generate(self, event: Input.Submitted) -> None:
        """Generate from one run after the other: greedily for digits, by sampling for text."""
        event.stop()
        if not event.value:
            self.notify("the prompt is empty; type at least one character", severity="warning")
            return
        sampling = Sampling(temperature=0.0 if event.value.replace(" ", "").isdecimal() else 0.8)
        paths = [run.row.path for run in self._runs]
        self._replies = {path: Text("…", "dim") for path in paths}
        self._prompt = event.value
        self.generation.start(Prompt(event.value, sampling), paths)
        self._show_replies(paths)

    def update_replies(self) -> None:
        """Show what was generated since the last call."""
        changed = set()
        for message in self.generation.drain():
            run = message.run
            if run not in self._replies:
                continue
            changed.add(run)
            match message:
                case ReplyStarted():
                    self._replies[run] = Text(f"{message.weights}\n", "dim")
                case ReplyText():
                    self._replies[run].append(message.text, "not dim")
                case ReplyFinished() if message.error is not None:
                    hint = "" if Run(run).has_checkpoint else f"; {key_of(BY_ID['checkpoint'])} in its lab saves one"
                    self._replies[run] = Text(f"✗ {printable(message.error)}{hint}", "bold")
                case ReplyFinished():
                    self._judge(run)
        self._show_replies(changed)

    def _judge(self, path: Path) -> None:
        """Say whether a reply is the right answer, in a task that has one."""
        config = next((run.row.config for run in self._runs if run.row.path == path), None)
        reply = self._replies[path].plain.partition("\n")[2]
        if judgment := verdict(config, self._prompt, reply):
            self._replies[path].append(f"  {judgment}", "bold green" if judgment[0] == "✓" else "bold red")

    def _show_replies(self, paths: Iterable[Path]) -> None:
        changed = set(paths)
        for run in self._runs:
            if run.row.path in changed:
                for reply in self.query(f".reply-{run.mark.number}").results(Static):
                    reply.update(self._replies[run.row.path])

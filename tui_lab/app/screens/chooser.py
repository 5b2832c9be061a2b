"""Where one begins: a preset, or an earlier run."""

from dataclasses import dataclass

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.message import Message
from textual.screen import Screen
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from tui_lab.app.labels import shown_path
from tui_lab.app.screens.help import Help
from tui_lab.app.textual_fixes.base_screen import BaseScreen
from tui_lab.app.textual_fixes.choices import Choices
from tui_lab.app.widgets.footer import KeyLine
from tui_lab.core.config import settings
from tui_lab.core.runs import folder as runs
from tui_lab.core.runs.folder import Run
from tui_lab.util.escape import printable

TITLE = "tui-lab: watch, steer and debug the training of a transformer"


@dataclass(frozen=True)
class Pick:
    """kind: a preset to start, or a run to replay or to go on with; overrides: KEY=VALUE for a preset."""

    kind: str
    name: str
    paused: bool = False
    overrides: tuple[str, ...] = ()


class Chooser(BaseScreen[None], Screen[None]):
    CSS_PATH = "chooser.tcss"
    BINDINGS = [
        Binding("space", "pick(True)", "Open paused"),
        Binding("c", "go_on", "Resume"),
        Binding("r", "app.runs", "Runs"),
        Binding("question_mark,f1", "help", "Help", key_display="?"),
        Binding("q", "app.quit", "Quit"),
    ]

    class Picked(Message):
        def __init__(self, pick: Pick) -> None:
            super().__init__()
            self.pick = pick

    def compose(self) -> ComposeResult:
        yield Static(TITLE, id="title")
        yield Choices(id="choices")
        yield Static(id="about")
        yield Static(id="torch")
        yield KeyLine()

    def on_mount(self) -> None:
        self.load()
        self.query_one(Choices).focus()

    def load(self) -> None:
        """Presets, then the runs, the newest first."""
        choices = self.query_one(Choices)
        choices.clear_options()
        choices.add_option(Option("Presets", disabled=True))
        for name, preset in settings.presets().items():
            choices.add_option(Option(Text.assemble((f"  {name:<18}", "bold"), preset.header[0]), id=f"preset:{name}"))
        found = runs.list_runs()
        title = Text(f"Runs ({printable(shown_path(runs.runs_folder()))})" if found else "No runs yet")
        choices.add_option(Option(title, disabled=True))
        for run in reversed(found):
            choices.add_option(Option(_run_line(run), id=f"run:{run.path}"))
        choices.highlighted = 1

    def torch_is(self, text: str) -> None:
        self.query_one("#torch", Static).update(text)

    def on_option_list_option_highlighted(self, event: OptionList.OptionHighlighted) -> None:
        kind, _, name = (event.option.id or "").partition(":")
        text = Text()
        if kind == "preset":
            text = Text("\n".join([*settings.presets()[name].header[1:], "Enter: start   Space: open paused"]))
        elif kind == "run":
            text = Text("Enter: replay   c: resume")
        self.query_one("#about", Static).update(text)

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """A click picks as Enter does."""
        self.action_pick()

    def _highlighted(self) -> tuple[str, str]:
        choices = self.query_one(Choices)
        at = choices.highlighted
        kind, _, name = ((choices.get_option_at_index(at).id or "") if at is not None else "").partition(":")
        return kind, name

    def action_pick(self, paused: bool = False) -> None:
        kind, name = self._highlighted()
        if kind:
            self.post_message(self.Picked(Pick("preset" if kind == "preset" else "replay", name, paused)))

    def action_go_on(self) -> None:
        kind, name = self._highlighted()
        if kind == "run":
            self.post_message(self.Picked(Pick("resume", name)))
        else:
            self.notify("c resumes a run; press Enter to start a preset", severity="warning")

    def action_help(self) -> None:
        self.app.push_screen(Help("chooser"))


def _run_line(run: Run) -> Text:
    summary = run.summary()
    numbers = [
        f"{title} {value:.4g}"
        for key, title in (("train_loss", "loss"), ("val_loss", "val"), ("exact_match", "exact"))
        if summary is not None and (value := summary.metric(key)) is not None
    ]
    state = summary.reason if summary else "interrupted"
    return Text.assemble((f"  {printable(run.name):<34}", "bold"), f"{state:<12}", "  ".join(numbers), no_wrap=True)

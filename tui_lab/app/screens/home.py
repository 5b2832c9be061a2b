"""Home: the presets and the earlier runs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.message import Message
from textual.screen import Screen
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from tui_lab.app.clipboard import copy
from tui_lab.app.keymap import named
from tui_lab.app.labels import shown_path
from tui_lab.app.screens.help import Help
from tui_lab.app.textual_fixes.base_screen import BaseScreen
from tui_lab.app.textual_fixes.choices import Choices
from tui_lab.app.widgets.footer import KeyLine
from tui_lab.core.config import settings
from tui_lab.core.config.schema import Config
from tui_lab.core.runs import folder as runs
from tui_lab.core.runs.folder import Run
from tui_lab.core.runs.lock import in_use
from tui_lab.util.errors import ConfigError
from tui_lab.util.escape import printable

TITLE = "tui-lab: watch, steer and debug the training of a transformer"
METRICS = {"train_loss": "loss", "val_loss": "val", "exact_match": "exact"}
"""Titles of the metrics shown for a run."""


PickKind = Literal["preset", "replay", "resume"]


@dataclass(frozen=True)
class Pick:
    """What to open: a preset to start, or a run to replay or resume.

    overrides: KEY=VALUE for a preset; steps: another number of steps for a run to resume.
    """

    kind: PickKind
    name: str
    paused: bool = False
    overrides: tuple[str, ...] = ()
    steps: int | None = None


class Home(BaseScreen[None], Screen[None]):
    CSS_PATH = "home.tcss"
    BINDINGS = named(
        "home",
        Binding("space", "pick(True)", "Open paused"),
        Binding("c", "resume", "Resume"),
        Binding("r", "app.runs", "Runs"),
        Binding("y", "copy", "Copy path", show=False),
        Binding("question_mark,f1", "help", "Help", key_display="?"),
        Binding("q", "app.quit", "Quit"),
    )

    class Picked(Message):
        """The user selected something to open."""

        def __init__(self, pick: Pick) -> None:
            super().__init__()
            self.pick = pick

    def compose(self) -> ComposeResult:
        yield Static(TITLE, id="title")
        yield Choices(id="choices")
        yield Static(id="about")
        yield KeyLine()

    def on_mount(self) -> None:
        self.load()
        self.query_one(Choices).focus()

    def load(self) -> None:
        """List the presets, then the runs, newest first."""
        choices = self.query_one(Choices)
        choices.clear_options()
        choices.add_option(Option("Presets", disabled=True))
        for name, preset in settings.presets().items():
            line = Text.assemble((f"  {name:<18}", "bold"), preset.header[0])
            choices.add_option(Option(line, id=f"preset:{name}"))
        run_list = runs.list_runs()
        title = f"Runs ({printable(shown_path(runs.runs_folder()))})" if run_list else "No runs yet"
        choices.add_option(Option(Text(title), disabled=True))
        for run in reversed(run_list):
            choices.add_option(Option(_run_line(run), id=f"run:{run.path}"))
        choices.highlighted = 1

    def on_option_list_option_highlighted(self, event: OptionList.OptionHighlighted) -> None:
        kind, _, name = (event.option.id or "").partition(":")
        text = ""
        if kind == "preset":
            text = "\n".join([*settings.presets()[name].header[1:], "Enter: start   Space: open paused"])
        elif kind == "run":
            text = run_hint(Path(name))
        self.query_one("#about", Static).update(Text(text))

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        # Also after a click.
        self.action_pick()

    def _highlighted(self) -> tuple[str, str]:
        """Return "preset" or "run" and its name or path; empty texts if neither is highlighted."""
        choices = self.query_one(Choices)
        if choices.highlighted is None:
            return "", ""
        kind, _, name = (choices.get_option_at_index(choices.highlighted).id or "").partition(":")
        return kind, name

    def action_pick(self, paused: bool = False) -> None:
        kind, name = self._highlighted()
        if kind:
            self.post_message(self.Picked(Pick("preset" if kind == "preset" else "replay", name, paused)))

    def action_resume(self) -> None:
        kind, name = self._highlighted()
        if kind == "run":
            self.post_message(self.Picked(Pick("resume", name)))
        else:
            self.notify("c resumes a run; press Enter to start a preset", severity="warning")

    def action_copy(self) -> None:
        """Copy the path of the run, or the name of the preset."""
        copy(self.app, self._highlighted()[1])

    def action_help(self) -> None:
        self.app.push_screen(Help("home"))


def run_hint(path: Path) -> str:
    """Return what the keys do with a run."""
    if in_use(path) is not None:
        return "Enter: follow it live, and steer it"
    try:
        resumable = isinstance(Run(path).config(), Config)
    except ConfigError:
        resumable = True  # The error is shown when it is opened.
    return "Enter: replay" + (
        "   c: resume" if resumable else "   Recorded from a script: only the script can train it."
    )


def _run_line(run: Run) -> Text:
    summary = run.summary()
    values = [] if summary is None else [(title, summary.metric(key)) for key, title in METRICS.items()]
    numbers = [f"{title} {value:.4g}" for title, value in values if value is not None]
    # Only a run without a summary is tried: most runs have ended long ago.
    state = summary.reason if summary else "running" if in_use(run.path) else "interrupted"
    return Text.assemble((f"  {printable(run.name):<34}", "bold"), f"{state:<12}", "  ".join(numbers), no_wrap=True)

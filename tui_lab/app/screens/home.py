"""Home: the presets and the earlier runs."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.events import Resize
from textual.message import Message
from textual.screen import Screen
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from tui_lab.app.clipboard import copy
from tui_lab.app.keymap import named
from tui_lab.app.labels import shown_path
from tui_lab.app.resuming import why_not_resumable
from tui_lab.app.screens.help import Help
from tui_lab.app.screens.home_text import ListedRun, hints, listed_run, preset_hint, preset_line, run_hint
from tui_lab.app.textual_fixes.base_screen import BaseScreen
from tui_lab.app.textual_fixes.choices import Choices
from tui_lab.app.widgets.footer import KeyLine
from tui_lab.app.widgets.search import SearchField
from tui_lab.core.config import settings
from tui_lab.core.runs import folder as runs
from tui_lab.core.runs.lock import in_use
from tui_lab.util.escape import printable

TITLE = "tui-lab: watch, steer and debug the training of a transformer"
LESSONS = "runs that train while you watch, with questions and planted mistakes"
MARGINS = 10
"""Columns of a line that margins, borders and the scroll bar take."""

PickKind = Literal["preset", "replay", "resume", "lessons"]


@dataclass(frozen=True)
class Pick:
    """What to open: a preset to start, a run to replay or resume, or the lessons with this name or folder.

    overrides: KEY=VALUE for a preset; steps: another number of steps for a run to resume; changes: live settings to
    change at its first step.
    """

    kind: PickKind
    name: str
    paused: bool = False
    overrides: tuple[str, ...] = ()
    steps: int | None = None
    changes: tuple[tuple[str, Any], ...] = ()


class HomeChoices(Choices):
    """The list of Home, whose Enter is in the footer."""

    BINDINGS = [Binding("enter", "select", "Open")]


class Home(BaseScreen[None], Screen[None]):
    CSS_PATH = "home.tcss"
    BINDINGS = named(
        "home",
        Binding("space", "pick(True)", "Open paused"),
        Binding("c", "resume", "Resume"),
        Binding("r", "app.runs", "Runs"),
        Binding("t", "app.lessons", "Lessons"),
        Binding("slash", "search", "Search"),
        Binding("escape", "end_search", "End the search", show=False),
        Binding("y", "copy", "Copy path", show=False),
        Binding("question_mark,f1", "help", "Help"),
        Binding("q", "app.quit", "Quit"),
    )

    _runs: Sequence[ListedRun] = ()

    class Picked(Message):
        """The user selected something to open."""

        def __init__(self, pick: Pick) -> None:
            super().__init__()
            self.pick = pick

    def compose(self) -> ComposeResult:
        yield Static(TITLE, id="title")
        yield Static(hints(), id="hints")
        yield SearchField("#choices", "part of the name or description of a preset or run")
        yield HomeChoices(id="choices")
        yield Static(id="about")
        yield KeyLine()

    def on_mount(self) -> None:
        self.load()
        self.query_one(Choices).focus()

    def load(self) -> None:
        """List the presets, then the runs, newest first; what is selected stays selected."""
        run_list = runs.list_runs()
        self._runs = [listed_run(run) for run in reversed(run_list)]
        self.query_one("#hints").display = not run_list
        self._fill()

    def _fill(self) -> None:
        """List the presets and runs whose line contains the text of the search."""
        search = self.query_one(SearchField).value.strip().lower()
        selected = ":".join(self._highlighted())
        choices = self.query_one(Choices)
        choices.clear_options()
        presets = [(preset_line(name), "preset", name) for name in settings.presets()]
        longest = max((len(run.path.name) for run in self._runs), default=0)
        all_runs = [(run.line(self._width, time.time(), longest), "run", str(run.path)) for run in self._runs]
        title = f"Runs ({printable(shown_path(runs.runs_folder()))})" if self._runs else "No runs yet"
        lessons = [(Text.assemble((f"  {'Lessons':<18}", "bold"), LESSONS), "lessons", "")]
        for heading, lines in (("Learn", lessons), ("Presets", presets), (title, all_runs)):
            choices.add_option(Option(Text(heading), disabled=True))
            choices.add_options(
                Option(line, id=f"{kind}:{name}")
                for line, kind, name in lines
                if search in line.plain.lower() or search in name.lower()
            )
        choices.action_first()
        ids = [option.id for option in choices.options]
        selected = selected if selected in ids else f"preset:{next(iter(settings.presets()))}"
        if selected in ids:
            choices.highlighted = ids.index(selected)

    @property
    def _width(self) -> int:
        """Columns of a line of the list."""
        return self.app.size.width - MARGINS

    def on_resize(self, event: Resize) -> None:
        self._fill()

    def on_search_field_searched(self, message: SearchField.Searched) -> None:
        self._fill()

    def action_search(self) -> None:
        self.query_one(SearchField).open()

    def action_end_search(self) -> None:
        self.query_one(SearchField).action_end_search()

    def on_option_list_option_highlighted(self, event: OptionList.OptionHighlighted) -> None:
        kind, _, name = (event.option.id or "").partition(":")
        hints_of_kind: dict[str, Callable[[], str]] = {
            "preset": lambda: preset_hint(name),
            "run": lambda: run_hint(Path(name)),
            "lessons": lambda: f"{LESSONS}\nEnter: list the lessons",
        }
        text = hints_of_kind.get(kind, str)()
        self.query_one("#about", Static).update(Text(printable(text)))
        self.refresh_bindings()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Only a run can be resumed, unless it trains now, has made all its steps or is that of a script."""
        if action != "resume":
            return True
        kind, name = self._highlighted()
        return kind == "run" and in_use(Path(name)) is None and not why_not_resumable(Path(name))

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        # Also after a click.
        self.action_pick()

    def _highlighted(self) -> tuple[str, str]:
        """Return "preset", "run" or "lessons", and a name or path; empty texts if nothing is highlighted."""
        choices = self.query_one(Choices)
        if choices.highlighted is None:
            return "", ""
        kind, _, name = (choices.get_option_at_index(choices.highlighted).id or "").partition(":")
        return kind, name

    def action_pick(self, paused: bool = False) -> None:
        kind, name = self._highlighted()
        if kind == "lessons":
            self.post_message(self.Picked(Pick("lessons", "")))
        elif kind:
            self.post_message(self.Picked(Pick("preset" if kind == "preset" else "replay", name, paused)))

    def action_resume(self) -> None:
        self.post_message(self.Picked(Pick("resume", self._highlighted()[1])))

    def action_copy(self) -> None:
        """Copy the path of the run, or the name of the preset."""
        copy(self.app, self._highlighted()[1])

    def action_help(self) -> None:
        self.app.push_screen(Help("home"))

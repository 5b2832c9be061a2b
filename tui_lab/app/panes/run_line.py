"""The line above the status line: a replay's seek bar, how a run ended and what to do next, or hints for a new user."""

import math
from collections.abc import Callable

from rich.text import Text
from textual.events import Click
from textual.widgets import Static

from tui_lab.app.actions import BY_ID
from tui_lab.app.keymap import keymap_of
from tui_lab.app.panes.end_text import end_text, offered
from tui_lab.app.panes.pane import fitting
from tui_lab.app.panes.seek_bar import SeekBar, keys_of
from tui_lab.app.session.source import Playback
from tui_lab.app.session.state import LabState

FIRST_MINUTE = {
    "pause": "pauses",
    "step": "one step",
    "pane_3": "its examples",
    "lr_up": "doubles lr",
    "generate": "generates",
    "diagnose": "looks for mistakes",
    "help": "help",
}
"""Hints for a new user: commands with what they do; each is shown until it is used."""
SECONDS_OF_HINTS = 60.0
HINTS_BEGIN = " Try: "


class RunLine(Static):
    """Call `show` at every tick; the line is hidden while it has nothing to say.

    applies: whether a command, by id, is enabled now. is_first: whether this is the user's first run, which begins with
    hints.
    """

    def __init__(self, id: str, applies: Callable[[str], bool], *, is_first: bool = False) -> None:
        super().__init__(id=id)
        self.display = False
        self._applies = applies
        self._bar = SeekBar()
        self._playback: Playback | None = None
        self._offered: dict[str, str] = {}
        """The commands that the line shows after the end."""
        self._acted_on = False
        """Whether one of them was carried out since the run ended."""
        self._hints = dict(FIRST_MINUTE) if is_first else {}
        self._hints_end = math.inf
        self._drawn: object = None

    def show(self, state: LabState, playback: Playback | None, now: float) -> None:
        self._playback = playback
        width = self.size.width or self.app.size.width
        if playback is not None:
            self._show_bar(playback, width)
        elif state.over:
            self._show_end(state, width)
        else:
            self._acted_on = False
            self._show_hints(state, width, now)

    def _show_bar(self, playback: Playback, width: int) -> None:
        drawn = (playback.position, playback.paused, playback.speed, playback.timeline, width)
        if drawn != self._drawn:
            timeline = playback.timeline

            def applies(id: str) -> bool:
                is_left_out = id == "resume" and timeline is not None and timeline.is_done
                # While the replay opens too: the bar would change its length when the key comes.
                return id == "pause" or (not is_left_out and self._applies(id))

            is_at_end = timeline is not None and playback.position >= timeline.end
            pause = "play again" if is_at_end else "play" if playback.paused else "pause"
            keys = keys_of(applies, keymap_of(self.app).key_of, pause=pause)
            self._put(drawn, self._bar.text(playback, width, keys))

    def _show_end(self, state: LabState, width: int) -> None:
        drawn = (state.ending, state.evaluated, self._acted_on, width)
        if drawn != self._drawn:
            self._offered = offered(state, self._applies)
            key_of = keymap_of(self.app).key_of
            self._put(drawn, Text() if self._acted_on else end_text(state, self._offered, width, key_of))

    def _show_hints(self, state: LabState, width: int, now: float) -> None:
        if state.phase == "loading":
            return
        self._hints_end = min(self._hints_end, now + SECONDS_OF_HINTS)
        if now >= self._hints_end:
            self._hints = {}
        usable = tuple(id for id in self._hints if self._applies(id))
        is_paused = state.phase == "paused"
        drawn = (usable, width, is_paused)
        if drawn != self._drawn:
            key_of = keymap_of(self.app).key_of
            actions = self._hints | ({"pause": "resumes"} if is_paused else {})
            hints = [f"{key_of(BY_ID[id])} {actions[id]}" for id in usable]
            line = fitting(hints, width - len(HINTS_BEGIN))
            self._put(drawn, Text.assemble((HINTS_BEGIN, "bold"), line) if hints else Text())

    def act(self, command_id: str) -> None:
        """Note that a command is carried out: the line goes away if it was offered there, or its hint does."""
        self._acted_on = self._acted_on or command_id in self._offered
        self._hints.pop(command_id, None)

    def _put(self, drawn: object, text: Text) -> None:
        self._drawn = drawn
        self.display = bool(text)
        if text or self.content:
            self.update(text, layout=False)

    def on_click(self, event: Click) -> None:
        """Go to the step under the pointer; the screen draws what it shows then."""
        if self._playback is not None and (step := self._bar.step_at(event.x)) is not None:
            self._playback.seek(step)

"""The line above the status line: the seek bar of a replay, or how a run ended and what to do next."""

from collections.abc import Callable

from rich.text import Text
from textual.events import Click
from textual.widgets import Static

from tui_lab.app.keymap import keymap_of
from tui_lab.app.panes.end_text import end_text, offered
from tui_lab.app.panes.seek_bar import SeekBar, keys_of
from tui_lab.app.session.source import Playback
from tui_lab.app.session.state import LabState


class RunLine(Static):
    """Call `show` at every tick; the line is hidden while it has nothing to say.

    applies: whether a command, by id, is enabled now.
    """

    def __init__(self, id: str, applies: Callable[[str], bool]) -> None:
        super().__init__(id=id)
        self.display = False
        self._applies = applies
        self._bar = SeekBar()
        self._playback: Playback | None = None
        self._offered: dict[str, str] = {}
        """The commands that the line shows."""
        self._acted_on = False
        """Whether one of them was carried out since the run ended."""
        self._drawn: object = None

    def show(self, state: LabState, playback: Playback | None) -> None:
        self._playback = playback
        width = self.size.width or self.app.size.width
        if playback is not None:
            drawn: object = (playback.position, playback.paused, playback.speed, playback.timeline, width)
            if drawn != self._drawn:
                keys = keys_of(self._applies, keymap_of(self.app).key_of)
                self._put(drawn, self._bar.text(playback, width, keys))
        elif not state.over:
            self._acted_on = False
            self._put(None, Text())
        else:
            drawn = (state.ending, state.evaluated, self._acted_on, width)
            if drawn != self._drawn:
                self._offered = offered(state, self._applies)
                key_of = keymap_of(self.app).key_of
                self._put(drawn, Text() if self._acted_on else end_text(state, self._offered, width, key_of))

    def act(self, command_id: str) -> None:
        """Note that a command is carried out: the line goes away if it was offered there."""
        self._acted_on = self._acted_on or command_id in self._offered

    def _put(self, drawn: object, text: Text) -> None:
        self._drawn = drawn
        self.display = bool(text)
        if text or self.content:
            self.update(text, layout=False)

    def on_click(self, event: Click) -> None:
        """Go to the step under the pointer; the screen draws what it shows then."""
        if self._playback is not None and (step := self._bar.step_at(event.x)) is not None:
            self._playback.seek(step)

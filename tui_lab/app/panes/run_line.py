"""The line above the status line: the seek bar of a replay."""

from rich.text import Text
from textual.events import Click
from textual.widgets import Static

from tui_lab.app.panes.seek_bar import SeekBar
from tui_lab.app.session.source import Playback


class RunLine(Static):
    """Call `show` at every tick; the line is hidden while it has nothing to say."""

    def __init__(self, id: str) -> None:
        super().__init__(id=id)
        self.display = False
        self._bar = SeekBar()
        self._playback: Playback | None = None
        self._drawn: object = None

    def show(self, playback: Playback | None) -> None:
        self._playback = playback
        if playback is None:
            return
        width = self.size.width or self.app.size.width
        drawn = (playback.position, playback.paused, playback.speed, playback.timeline, width)
        if drawn != self._drawn:
            self._drawn = drawn
            self.put(self._bar.text(playback, width))

    def put(self, text: Text) -> None:
        self.display = bool(text)
        self.update(text, layout=False)

    def on_click(self, event: Click) -> None:
        """Go to the step under the pointer; the screen draws what it shows then."""
        if self._playback is not None and (step := self._bar.step_at(event.x)) is not None:
            self._playback.seek(step)

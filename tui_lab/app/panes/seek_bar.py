"""The seek bar of a replay: where it is, what it can go to, and its keys."""

import math
from collections.abc import Callable, Sequence

from rich.text import Text

from tui_lab.app.actions import BY_ID, Command, key_of
from tui_lab.app.panes.pane import fitting
from tui_lab.app.session.source import Playback, Timeline

KEYS = {
    ("pause",): "pause",
    ("slower", "faster"): "speed",
    ("seek_back", "seek_forward"): "seek",
    ("resume",): "resume",
    ("fork",): "fork",
}
"""What the keys of commands do, the most useful first."""
PAUSE_TEXTS = ("pause", "play", "play again")
"""What the key that pauses can do."""
PLAYED, REST, POSITION = "━", "─", "●"
EVALUATION, CHANGE, CHECKPOINT = "┬", "◆", "▼"
LEAST_WIDTH = 16
"""Columns of the bar; keys are left out before it gets narrower."""
MOST_WIDTH = 80


def keys_of(
    applies: Callable[[str], bool], key_of: Callable[[Command], str] = key_of, *, pause: str = "pause"
) -> list[str]:
    """Return the keys that the line names, with what they do: those of the commands that apply.

    pause: what the key that pauses does now.
    """
    texts = KEYS | {("pause",): pause}
    return [f"{' '.join(key_of(BY_ID[id]) for id in ids)} {does}" for ids, does in texts.items() if applies(ids[0])]


def _growth(keys: Sequence[str]) -> int:
    """Return how many columns longer the text of the key that pauses can get."""
    does = next((does for does in PAUSE_TEXTS if keys and keys[0].endswith(f" {does}")), None)
    return 0 if does is None else max(map(len, PAUSE_TEXTS)) - len(does)


class SeekBar:
    """Draws the bar, and maps its columns to steps."""

    def __init__(self) -> None:
        self._start = 0
        self._width = 0
        self._end = 0
        self._marked: dict[int, int] = {}
        """The steps of the marks that are visible, by the column of the bar."""
        self._laid_out: object = None
        self._keys_width = 0
        """Columns of the keys, at their widest in this layout: the bar keeps its width when a key goes."""

    def text(self, playback: Playback, width: int, keys: Sequence[str]) -> Text:
        """Return the line, `width` columns wide, with those of `keys` that fit."""
        timeline = playback.timeline
        if timeline is None:
            self._width = 0
            return Text(" reading the log …", "dim")
        sign = "■" if playback.position >= timeline.end else "‖" if playback.paused else "▶"
        text = Text(f" {sign} ", "bold", no_wrap=True, overflow="ellipsis")
        speed = "all at once" if playback.speed == math.inf else f"×{playback.speed:g}"
        place = f" {playback.position:,}/{timeline.end:,}  {speed}"
        # At its widest, so that the bar does not change its length while it plays.
        n_place = len(f" {timeline.end:,}/{timeline.end:,}  all at once")
        n_more = _growth(keys)
        fitting_keys = fitting(keys, width - text.cell_len - n_place - LEAST_WIDTH - 3 - n_more)
        self._start = text.cell_len
        self._end = timeline.end
        before = self._keys_width if self._laid_out == (width, self._end) else 0
        self._laid_out = (width, self._end)
        self._keys_width = max(before, len(fitting_keys) + n_more if fitting_keys else 0)
        self._width = max(2, min(MOST_WIDTH, width - self._start - n_place - self._keys_width - 3))
        self._append_bar(text, timeline, playback.position)
        text.append(place.ljust(n_place), "bold")
        return text.append(f"  {fitting_keys}", "dim")

    def step_at(self, column: int) -> int | None:
        """Return the step at a column of the line, at a mark exactly its own; None outside of the bar."""
        if not self._start <= column < self._start + self._width:
            return None
        place = column - self._start
        return self._marked.get(place, round(place / (self._width - 1) * self._end))

    def _append_bar(self, text: Text, timeline: Timeline, position: int) -> None:
        reached = self._column(position)
        signs = [PLAYED if column < reached else REST for column in range(self._width)]
        styles = ["bold cyan" if column < reached else "dim" for column in range(self._width)]
        marks = (
            (timeline.evaluations, EVALUATION, "yellow"),
            (timeline.changes, CHANGE, "green"),
            (timeline.checkpoints, CHECKPOINT, "magenta"),
        )
        self._marked = {}
        for steps, sign, style in marks:
            for step in steps:
                column = self._column(step)
                self._marked[column] = step
                signs[column] = sign
                styles[column] = style
        signs[reached] = POSITION
        styles[reached] = "bold cyan"
        for sign, style in zip(signs, styles, strict=True):
            text.append(sign, style)

    def _column(self, step: int) -> int:
        """Return where in the bar a step is."""
        return round(min(1.0, step / max(1, self._end)) * (self._width - 1))

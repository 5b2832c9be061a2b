"""What the model said, the newest on top."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from rich.segment import Segment
from rich.text import Text
from textual import events
from textual.binding import Binding
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from tui_lab.app.session.generation_thread import Request
from tui_lab.app.textual_fixes.size_lays_out import size_without_layout
from tui_lab.app.textual_fixes.wrap_keeps_spaces import wrapped
from tui_lab.app.widgets.streaming_wrap import Flow
from tui_lab.core.inference.sampling import Generated
from tui_lab.util.escape import printable

HINT = "Enter: generate from the current weights. every N: repeat every N steps."


@dataclass
class Answer:
    """What the model said to a prompt. step: that its weights are of; best: those of the best validation loss."""

    request: Request
    step: int
    best: bool = False
    made: list[Generated] = field(default_factory=list)
    done: bool = False
    error: str | None = None


class _Drawn:
    """An answer in lines, as far as they were drawn."""

    def __init__(self, answer: Answer, width: int, chosen: int | None) -> None:
        self.answer, self._of, self._width, self._chosen = answer, _whose(answer), width, chosen
        self._n, self._ending = 0, Text()
        self.lines: list[Text] = []
        self._flow = Flow(width)
        self._flow.extend([(self._of, "bold"), (printable(answer.request.prompt), "dim")])

    def holds(self, width: int, chosen: int | None) -> bool:
        """Whether what was drawn of it still stands."""
        return (self._of, self._width, self._chosen) == (_whose(self.answer), width, chosen)

    def grow(self, ending: Text) -> None:
        """Take in what was said since, and what stands after it for now."""
        new = self.answer.made[self._n :]
        if self.lines and not new and ending == self._ending:
            return
        self._flow.extend(
            (printable(made.text), "reverse" if i == self._chosen else style_of(made.probability))
            for i, made in enumerate(new, self._n)
        )
        self._n, self._ending, self.lines = self._n + len(new), ending, self._flow.lines(ending)


class Answers(ScrollView, can_focus=True):
    """Call `show`; left and right select a token of the newest answer.

    Only lines that have changed are painted, and nothing is laid out. Who sees the end of an answer sees it grow.
    """

    virtual_size = size_without_layout()

    BINDINGS = [
        Binding("left", "move(-1)", "Token before", show=False),
        Binding("right", "move(1)", "Next token", show=False),
    ]

    class Moved(Message):
        def __init__(self, by: int) -> None:
            super().__init__()
            self.by = by

    def __init__(self, id: str, ending: Callable[[Answer], Text]) -> None:
        """ending: what stands after an answer."""
        super().__init__(id=id)
        self._ending = ending
        self._answers: Sequence[Answer] = ()
        self._chosen: int | None = None
        self._drawn: list[_Drawn] = []
        self._lines: list[Text] = []

    def show(self, answers: Sequence[Answer], chosen: int | None) -> None:
        """The answers, the newest last, and which token of that is selected."""
        self._answers, self._chosen = answers, chosen
        width = self.scrollable_content_region.width
        if width <= 0:
            return
        followed = self._drawn[0] if self._drawn and self._shows_end_of(self._drawn[0]) else None
        before, self._lines = self._lines, self._broken(width)
        if self.virtual_size != (room := Size(width, self._room())):
            self.virtual_size = room
            self._scroll_update(room)
        if followed is not None:
            self._follow(followed.answer)
        top, height = self.scroll_offset.y, self.size.height
        for y in range(top, min(top + height, max(len(before), len(self._lines)))):
            if before[y : y + 1] != self._lines[y : y + 1]:
                self.refresh_line(y)

    def _room(self) -> int:
        """Lines to scroll over: in steps, as each paints the scrollbar, and with as much below as `_follow` leaves."""
        n, half = len(self._lines), self._half
        return n if n <= self.size.height else (-(-n // half) + 1) * half

    @property
    def _half(self) -> int:
        return (self.size.height + 1) // 2

    def _shows_end_of(self, newest: _Drawn) -> bool:
        return self.scroll_offset.y < len(newest.lines) <= self.scroll_offset.y + self.size.height

    def _follow(self, followed: Answer) -> None:
        """The end of an answer that was followed stays in sight; the next one is seen from its beginning.

        By half of what can be seen at once: each of the lines there is painted anew.
        """
        newest = self._drawn[0]
        if newest.answer is not followed:
            self.scroll_to(y=0, animate=False)
        elif not self._shows_end_of(newest):
            self.scroll_to(y=len(newest.lines) - self._half, animate=False)

    def _broken(self, width: int) -> list[Text]:
        if not self._answers:
            return wrapped(Text(HINT, "dim"), width)
        held = {id(drawn.answer): drawn for drawn in self._drawn}
        drawn = []
        for answer in reversed(self._answers):
            chosen = self._chosen if answer is self._answers[-1] else None
            old = held.get(id(answer))
            drawn.append(old if old and old.holds(width, chosen) else _Drawn(answer, width, chosen))
        self._drawn = drawn
        for each in drawn:
            each.grow(self._ending(each.answer))
        return [line for each in drawn for line in each.lines]

    def render_line(self, y: int) -> Strip:
        style, width, at = self.rich_style, self.scrollable_content_region.width, self.scroll_offset.y + y
        if at >= len(self._lines):
            return Strip.blank(width, style)
        segments = self._lines[at].render(self.app.console)
        return Strip(Segment.apply_style(segments, style)).adjust_cell_length(width, style)

    def on_resize(self, event: events.Resize) -> None:
        self.show(self._answers, self._chosen)

    def action_move(self, by: int) -> None:
        self.post_message(self.Moved(by))


def _whose(answer: Answer) -> str:
    return f"{'best, ' if answer.best else ''}step {answer.step:,} "


def style_of(probability: float) -> str:
    """Likely tokens plain, less likely ones coloured and underlined, so that colour is not the only sign."""
    return "" if probability >= 0.5 else "yellow" if probability >= 0.1 else "red underline"

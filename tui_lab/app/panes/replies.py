"""The model's replies, newest on top, drawn line by line as they grow."""

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

from tui_lab.app.actions import BY_ID
from tui_lab.app.keymap import keymap_of
from tui_lab.app.session.generation_thread import GenerationRequest
from tui_lab.app.textual_fixes.size_lays_out import size_without_layout
from tui_lab.app.textual_fixes.wrap_keeps_spaces import wrapped
from tui_lab.app.widgets.movement import SCROLL
from tui_lab.app.widgets.streaming_wrap import Flow
from tui_lab.core.inference.reply_log import RecordedReply
from tui_lab.core.inference.sampling import Generated, Sampling
from tui_lab.util.escape import printable

HINT = "{key}: generate from the current weights. every N: repeat every N steps."
"""key: the one that generates."""
CHECKPOINT_HINT = HINT.replace("the current weights", "the last checkpoint so far")
NO_MODEL_HINT = "This run was imported from a log, which has no model."
LIKELY = 0.5
UNLIKELY = 0.1
TOKENS_OF_START = 40


@dataclass
class Reply:
    """The reply to a prompt. step: that of the weights; best: whether they have the lowest validation loss.

    has_weights: whether it is known which weights reply; until then the step is that of the request, and not shown.
    """

    request: GenerationRequest
    step: int
    best: bool = False
    has_weights: bool = False
    tokens: list[Generated] = field(default_factory=list)
    done: bool = False
    error: str | None = None

    @property
    def header(self) -> str:
        if not (self.has_weights or self.tokens or self.done):
            return "… "
        return f"{'best, ' if self.best else ''}step {self.step:,} "

    @property
    def start(self) -> str:
        """The first tokens, for a line that names the reply."""
        text = "".join(token.text for token in self.tokens[:TOKENS_OF_START])
        return f"{self.header}{self.request.prompt}{text}"

    def record(self) -> RecordedReply:
        """Return what is recorded of it."""
        request = self.request
        sampling = Sampling(request.temperature, request.top_k, request.top_p, request.seed)
        return RecordedReply(self.step, self.best, request.prompt, request.max_new_tokens, sampling, self.tokens)


def restored(recorded: RecordedReply) -> Reply:
    """Return a recorded reply as one that is complete; its request has the number 0, which no new one has."""
    request = GenerationRequest(0, recorded.prompt, recorded.max_new_tokens, **vars(recorded.sampling))
    return Reply(request, recorded.step, recorded.best, tokens=list(recorded.tokens), done=True)


class _WrappedReply:
    """A reply broken into lines; appends new tokens without breaking the earlier ones again."""

    def __init__(self, reply: Reply, width: int, selected: int | None) -> None:
        self.reply = reply
        self._header = reply.header
        self._width = width
        self._selected = selected
        self._n_tokens = 0
        self._ending = Text()
        self.lines: list[Text] = []
        self._flow = Flow(width)
        self._flow.extend([(self._header, "bold"), (printable(reply.request.prompt), "dim")])

    def fits(self, width: int, selected: int | None) -> bool:
        """Return whether the lines can still be used for this width and selected token."""
        return (self._header, self._width, self._selected) == (self.reply.header, width, selected)

    def update(self, ending: Text) -> None:
        """Append the new tokens, followed by `ending`."""
        new_tokens = self.reply.tokens[self._n_tokens :]
        if self.lines and not new_tokens and ending == self._ending:
            return
        self._flow.extend(
            (printable(token.text), "reverse" if i == self._selected else probability_style(token.probability))
            for i, token in enumerate(new_tokens, self._n_tokens)
        )
        self._n_tokens += len(new_tokens)
        self._ending = ending
        self.lines = self._flow.lines(ending)


class Replies(ScrollView, can_focus=True):
    """Call `show_replies`; posts `TokenMoved` for the left and right keys.

    Repaints only the lines that changed and never lays out the screen. If the end of the newest reply is in view, it
    stays in view while the reply grows.
    """

    virtual_size = size_without_layout()

    BINDINGS = [
        Binding("left,h", "move(-1)", "Previous token", show=False),
        Binding("right,l", "move(1)", "Next token", show=False),
        *SCROLL,
    ]

    class TokenMoved(Message):
        """Select the token `by` places further."""

        def __init__(self, by: int) -> None:
            super().__init__()
            self.by = by

    def __init__(self, id: str, ending: Callable[[Reply], Text]) -> None:
        """ending: returns the text shown after a reply's tokens."""
        super().__init__(id=id)
        self._ending = ending
        self.hint = HINT
        self._replies: Sequence[Reply] = ()
        self._selected: int | None = None
        self._wrapped: list[_WrappedReply] = []
        self._lines: list[Text] = []

    def show_replies(self, replies: Sequence[Reply], selected: int | None) -> None:
        """Show the replies, given oldest first. selected: index of a token of the newest one."""
        self._replies = replies
        self._selected = selected
        width = self.scrollable_content_region.width
        if width <= 0:
            return
        followed = self._wrapped[0] if self._wrapped and self._end_in_view(self._wrapped[0]) else None
        previous_lines = self._lines
        self._lines = self._wrap(width)
        size = Size(width, self._scroll_height())
        if self.virtual_size != size:
            self.virtual_size = size
            self._scroll_update(size)
        if followed is not None:
            self._follow(followed.reply)
        top = self.scroll_offset.y
        for y in range(top, min(top + self.size.height, max(len(previous_lines), len(self._lines)))):
            if previous_lines[y : y + 1] != self._lines[y : y + 1]:
                self.refresh_line(y)

    def _scroll_height(self) -> int:
        """Return the number of lines to scroll over, rounded up so that the scrollbar is not repainted for each line,
        and with the space below the last line that `_follow` needs."""
        n_lines = len(self._lines)
        if n_lines <= self.size.height:
            return n_lines
        return (-(-n_lines // self._half_page) + 1) * self._half_page

    @property
    def _half_page(self) -> int:
        return (self.size.height + 1) // 2

    def _end_in_view(self, newest: _WrappedReply) -> bool:
        return self.scroll_offset.y < len(newest.lines) <= self.scroll_offset.y + self.size.height

    def _follow(self, followed: Reply) -> None:
        """Keep the end of the followed reply in view, or scroll to the top for a new reply.

        Scrolls half a page at a time, because scrolling repaints every line.
        """
        newest = self._wrapped[0]
        if newest.reply is not followed:
            self.scroll_to(y=0, animate=False)
        elif not self._end_in_view(newest):
            self.scroll_to(y=len(newest.lines) - self._half_page, animate=False)

    def _wrap(self, width: int) -> list[Text]:
        if not self._replies:
            key = keymap_of(self.app).key_of(BY_ID["generate"])
            return wrapped(Text(self.hint.format(key=key), "dim"), width)
        previous = {id(each.reply): each for each in self._wrapped}
        self._wrapped = []
        for reply in reversed(self._replies):
            selected = self._selected if reply is self._replies[-1] else None
            wrapped_reply = previous.get(id(reply))
            if wrapped_reply is None or not wrapped_reply.fits(width, selected):
                wrapped_reply = _WrappedReply(reply, width, selected)
            wrapped_reply.update(self._ending(reply))
            self._wrapped.append(wrapped_reply)
        return [line for each in self._wrapped for line in each.lines]

    def render_line(self, y: int) -> Strip:
        style = self.rich_style
        width = self.scrollable_content_region.width
        line_number = self.scroll_offset.y + y
        if line_number >= len(self._lines):
            return Strip.blank(width, style)
        segments = self._lines[line_number].render(self.app.console)
        return Strip(Segment.apply_style(segments, style)).adjust_cell_length(width, style)

    def on_resize(self, event: events.Resize) -> None:
        self.show_replies(self._replies, self._selected)

    def action_move(self, by: int) -> None:
        self.post_message(self.TokenMoved(by))


def probability_style(probability: float) -> str:
    """Return the style of a token. Rare ones are underlined too, so that color is not the only sign."""
    if probability >= LIKELY:
        return ""
    return "yellow" if probability >= UNLIKELY else "red underline"

"""A bordered part of the lab, shown by a number key."""

from collections.abc import Sequence

from rich.markup import escape
from rich.text import Text
from textual.containers import Vertical
from textual.events import Click, DescendantBlur, DescendantFocus, Resize
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Input, Static

from tui_lab.app.panes.key_hints import BETWEEN, Hint, fitting_hints, hints_of
from tui_lab.app.session.state import LabState
from tui_lab.app.widgets.static_text import update_text
from tui_lab.util.escape import printable


class Pane(Vertical):
    """Base class. `number` and `title` are shown in the top border; `help_name` is the name of its page in help/.

    While the pane has the focus, its bottom border shows what its keys do.
    """

    number = 0
    title = ""
    help_name = ""
    main = ""
    """A selector of the widget that gets the focus."""
    hints: Sequence[str] = ()
    """The keys of the pane with what they do, the most useful first."""
    field_hints: Sequence[str] = ("Enter apply", "Esc cancel", "F1 help")
    """While one of its fields has the focus."""
    shows_latest = False
    """Whether it shows the latest state, and not that of the frame. Such a pane must not show a step."""

    is_line = False
    """Whether only the title line is shown now."""
    _drawn_hints: object = None

    class TitleClicked(Message):
        """The title was clicked. n_clicks: 2 for a double click."""

        def __init__(self, number: int, n_clicks: int) -> None:
            super().__init__()
            self.number = number
            self.n_clicks = n_clicks

    def on_mount(self) -> None:
        self.border_title = self._title_of("")

    def draw(self, state: LabState, now: float) -> None:
        """Draw the pane, or its title line."""
        if self.is_line:
            self._show_line(state)
        else:
            self.show(state, now)

    def set_line(self, is_line: bool, state: LabState) -> None:
        """Show only the title line, or the whole pane again."""
        if is_line != self.is_line:
            self.is_line = is_line
            self.set_class(is_line, "-line")
            self.border_title = self._title_of("")
        if is_line:
            self._show_line(state)

    def has_content(self, state: LabState) -> bool:
        """Return whether there is more to show than a title line; if not, the pane is only that line in a stack."""
        return True

    def summary(self, state: LabState) -> str:
        """Return what the title line says about the content."""
        return ""

    def _show_line(self, state: LabState) -> None:
        n_free = self.outer_size.width - len(self._title_of("")) - len("──  ")
        title = self._title_of(shortened(self.summary(state), n_free))
        if title != self.border_title:
            self.border_title = title

    def _title_of(self, summary: str) -> str:
        title = f"{self.number} {self.title}" + (f"  {escape(printable(summary))}" if summary else "")
        return f" {title} " if self.is_line else title  # Without corners the title would touch the line.

    def show(self, state: LabState, now: float) -> None:
        """Draw what has changed in `state`. Called up to ten times a second while the pane is visible."""
        raise NotImplementedError

    def rewound(self) -> None:
        """Forget what was drawn: a replay went to another step."""

    def copied(self) -> str:
        """Return what `y` copies: what is selected, or what the pane shows; empty if there is nothing."""
        return ""

    def put(self, selector: str, text: Text | str, *, layout: bool = False) -> None:
        """Update a Static if its text has changed. layout: whether its height may have changed."""
        update_text(self.query_one(selector, Static), text, layout=layout)

    @property
    def state_text(self) -> str:
        """What the bottom border says before the keys."""
        return ""

    def focus_now(self, widget: Widget) -> None:
        """Move the focus at once: with `Widget.focus` the next keys of a burst would still go to where it was."""
        self.screen.set_focus(widget)

    def show_hints(self) -> None:
        """Show the state, and the keys that fit if the pane has the focus."""
        hints: Sequence[str] = ()
        if self.has_focus_within:
            hints = self.field_hints if isinstance(self.screen.focused, Input) else self.hints
        texts = [self.state_text, *hints] if self.state_text else list(hints)
        drawn = (texts, self.screen.focused if hints else None, self.outer_size.width)
        if drawn != self._drawn_hints:
            self._drawn_hints = drawn
            state = [Hint(self.state_text)] if self.state_text else []
            shown = fitting_hints([*state, *hints_of(hints, self.screen.focused)], self.outer_size.width - 6)
            self.border_subtitle = shown

    def on_descendant_focus(self, event: DescendantFocus) -> None:
        self.call_later(self.show_hints)

    def on_descendant_blur(self, event: DescendantBlur) -> None:
        self.call_later(self.show_hints)

    def on_resize(self, event: Resize) -> None:
        self.show_hints()

    def on_click(self, event: Click) -> None:
        if event.screen_y == self.region.y:  # Also of clicks in the pane, which bubble.
            self.post_message(self.TitleClicked(self.number, event.chain))


def shortened(text: str, width: int) -> str:
    """Return a text of at most `width` characters that ends with a whole word; without a width, all of it."""
    if width <= 0 or len(text) <= width:
        return text
    words = text[:width].rpartition(" ")[0].rstrip(" :,;·")
    return f"{words}…" if words else ""


def fitting(parts: Sequence[str], width: int) -> str:
    """Return as many of the parts as fit into a line."""
    line = ""
    for part in parts:
        longer = f"{line}{BETWEEN}{part}" if line else part
        if len(longer) > width:
            break
        line = longer
    return line

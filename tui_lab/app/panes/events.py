"""The events pane: a log of the run, and what user code printed."""

import re
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.binding import Binding
from textual.widgets import Static

from tui_lab.app.keymap import keymap_of, named
from tui_lab.app.panes.key_hints import taken_keys
from tui_lab.app.panes.pane import Pane
from tui_lab.app.panes.printed_losses import PrintedLosses
from tui_lab.app.panes.spike_text import spike_line
from tui_lab.app.session.messages import (
    Interrupted,
    Preparing,
    Printed,
    Ready,
    RecordedPause,
    Rewound,
    SessionFailed,
    SessionMessage,
    SpikeSeen,
)
from tui_lab.app.session.spikes import with_spikes
from tui_lab.app.session.state import LabState
from tui_lab.app.widgets.scrolled import Log
from tui_lab.app.widgets.search import SearchField
from tui_lab.core import events as ev
from tui_lab.core.runs.before_nonfinite import LastSteps
from tui_lab.runs.event_text import event_text, failure_text
from tui_lab.runs.names import end_name
from tui_lab.runs.nonfinite_text import before_lines
from tui_lab.util.escape import printable
from tui_lab.util.plural import counted

MAX_LINES = 2000
MOST_MERGED_STEPS = 10
"""Between resuming and a pause: the user asked for so many steps by one key."""
MAX_PAST_LINES = 300
"""Of the events before a run was opened."""
SECONDS_TO_PRINT = 2.0
"""How long an evaluation waits for the script to print its loss: output is read a little later than events."""
TIME = re.compile(r"^(\w+ \d+ \d\d:\d\d|\d\d:\d\d:\d\d) ")


def log_line(message: SessionMessage) -> str | None:
    """Return the line of a message; None for those that are not logged, such as steps."""
    match message:
        case ev.Saved():
            return f"step {message.step:,}: saved {message.path}"
        case ev.Paused() | ev.Resumed():
            return f"step {message.step:,}: {message.kind}"
        case ev.Stopped():
            restored = "" if message.restored is None else f"; restored the best weights, of step {message.restored:,}"
            return f"step {message.step:,}: {end_name(message)}{restored}"
        case ev.Failed():
            return failure_text(message)
        case ev.Started(faults=faults) if faults:
            # Which ones they are, the doctor says.
            n = len(faults)
            return f"{event_text(replace(message, faults=()))}; {counted(n, 'planted mistake')}"
        case ev.Logged():
            # The loss pane shows the latest values; here they would push everything else out.
            return event_text(message) if message.texts else None
        case Interrupted(reason):
            return reason or "the log ends here: the run was interrupted"
        case SessionFailed():
            return f"{message.message}\n{message.details}".rstrip()
        case ev.Event():
            return event_text(message)
        case _:
            return None


def steps_text(n_steps: int) -> str:
    """Return what a pause says of the steps that the user asked for; empty if there are none."""
    return f" after {'one step' if n_steps == 1 else f'{n_steps} steps'}" if n_steps else ""


def time_text(seconds: float, now: datetime) -> str:
    """Return a time of day, or the date with it if it is not today's. seconds: since 1970."""
    then = datetime.fromtimestamp(seconds)
    return f"{then:%H:%M:%S}" if then.date() == now.date() else f"{then:%b %d %H:%M}"


def _time_of(message: SessionMessage, now: str | None) -> str:
    """Return the recorded time of a message, else `now`, before its line; empty if neither is known."""
    if isinstance(message, ev.Event) and message.time is not None:
        return f"{time_text(message.time, datetime.now())} "
    return "" if now is None else f"{now} "


class EventsPane(Pane):
    number = 5
    title = "Events"
    help_name = "events"
    main = "#log"
    hints = ("/ search", "y copy")

    BINDINGS = named(
        "events",
        Binding("slash", "search", "Search", show=False),
        Binding("escape", "end_search", "End the search", show=False),
    )

    def __init__(self, id: str, clock: Callable[[], str] = lambda: time.strftime("%H:%M:%S")) -> None:
        super().__init__(id=id)
        self._clock = clock
        self._waiting: deque[str] = deque(maxlen=MAX_LINES)
        """What is to be logged once the pane has a width to wrap it at."""
        self._lines: deque[str] = deque(maxlen=MAX_LINES)
        """All of it, logged or waiting."""
        self._last_steps = LastSteps()
        self._search = ""
        self._logged_width = 0
        self._last_pauses: list[ev.Paused | ev.Resumed] = []
        """The last lines, at most two, if they are of messages that paused or resumed the run."""
        self._resumed: tuple[int, str] | None = None
        """The step at which the run was last resumed, and the line of that."""
        self._started_at: int | None = None
        """The step at which the run was last started or resumed, until its end."""
        self._is_script = False
        self._printed_losses = PrintedLosses()
        self._held: str | None = None
        """The line of an evaluation that waits for the script to print the same."""

    def compose(self) -> ComposeResult:
        yield SearchField("#log", "part of a line")
        yield Log(id="log", max_lines=MAX_LINES, wrap=True, markup=False, highlight=False, min_width=20)
        yield Static(id="unfinished")

    def note(self, message: SessionMessage, *, is_replayed: bool = False) -> None:
        """Log a message of the session, if it has a line.

        is_replayed: it happened earlier: its time is the recorded one, or not known.
        """
        if isinstance(message, Printed):
            self._note_output(message)
            return
        if isinstance(message, ev.Event):
            self._last_steps.update(message)
        if isinstance(message, RecordedPause):
            self.note(message.event, is_replayed=True)
            return
        if isinstance(message, Rewound):
            self._rewind(message, is_replayed=is_replayed)
            return
        if isinstance(message, Ready):
            self._is_script = message.trainer_config is None
            self._note_past(message.past)
            return
        pauses = self._last_pauses
        n_steps = self._merged_steps(message) if isinstance(message, ev.Paused) else 0
        if not isinstance(message, Preparing) and (line := self._line(message)) is not None:
            line += self._lost_text(message) + steps_text(n_steps)
            line = f"{_time_of(message, None if is_replayed else self._clock())}{printable(line)}"
            if isinstance(message, ev.Evaluated) and self._is_script:
                self._note_evaluation(message, line, is_replayed=is_replayed)
                return
            self._write_held()
            self._write(line)
            if isinstance(message, ev.Resumed):
                self._resumed = (message.step, line)
        if isinstance(message, ev.Paused | ev.Resumed):
            self._last_pauses = [*pauses[-1:], message]

    def _rewind(self, rewound: Rewound, *, is_replayed: bool) -> None:
        """Log only what was before the step to which a replay has gone."""
        self._started_at = None
        self._resumed = None
        self._last_steps = LastSteps()
        self._printed_losses = PrintedLosses()
        self._held = None
        self._waiting.clear()
        self._lines.clear()
        self.query_one(Log).clear()
        for past in with_spikes(rewound.past):
            self.note(past, is_replayed=is_replayed)

    def _line(self, message: SessionMessage) -> str | None:
        """Return the line of a message; that of a spike says which keys explain it, where rows are recorded."""
        if isinstance(message, SpikeSeen):
            is_explained = not self._is_script and "enter" not in taken_keys(self.screen)
            return spike_line(message.spike, keymap_of(self.app) if is_explained else None)
        line = log_line(message)
        if isinstance(message, ev.NonFinite):
            return "\n".join([line or "", *before_lines(self._last_steps.before(message))])
        return line

    def _lost_text(self, message: SessionMessage) -> str:
        """Return what a start says of the one before, if the run was killed in between."""
        if not isinstance(message, ev.Started):
            if isinstance(message, ev.Stopped | ev.Failed):
                self._started_at = None
            return ""
        is_again = message.resumed and message.step == self._started_at
        self._started_at = message.step
        return " again: what it did after this step was not saved" if is_again else ""

    def _note_past(self, past: tuple[ev.Event, ...]) -> None:
        """Log what the run did before it was opened, the latest of it if that is much."""
        messages = list(with_spikes(past))
        with_line = [i for i, message in enumerate(messages) if self._line(message) is not None][-MAX_PAST_LINES:]
        first = with_line[0] if with_line else 0
        for message in messages[:first]:
            if isinstance(message, ev.Event):
                self._last_steps.update(message)
        for message in messages[first:]:
            self.note(message, is_replayed=True)

    def _merged_steps(self, pause: ev.Paused) -> int:
        """Return how many steps were made since the run was resumed, if few: then drop the line of that.

        Those are the steps that the user asked for. Of such steps in a row, only the last pause is kept: they would
        push everything else out of sight.
        """
        if self._resumed is None:
            return 0
        from_step, line = self._resumed
        self._resumed = None
        n_steps = pause.step - from_step
        if not 0 < n_steps <= MOST_MERGED_STEPS or line not in self._lines:
            return 0
        if [type(one) for one in self._last_pauses] == [ev.Paused, ev.Resumed]:
            self._lines.pop()
            self._lines.pop()
        else:
            self._lines.remove(line)
        self._start_again()
        return n_steps

    def add(self, text: str) -> None:
        """Log a line of the app itself."""
        self._write(f"{self._clock()} {printable(text)}")

    def _note_evaluation(self, evaluated: ev.Evaluated, line: str, *, is_replayed: bool) -> None:
        """Log an evaluation of a script, unless the script prints its loss; a new one waits for that for a moment."""
        if self._printed_losses.take(evaluated.val_loss):
            return
        self._write_held()
        self._printed_losses.log(evaluated.val_loss, line)
        if is_replayed:
            self._write(line)
        else:
            self._held = line
            self.set_timer(SECONDS_TO_PRINT, self._write_held)

    def _write_held(self) -> None:
        """Log the evaluation whose loss the script has not printed."""
        line = self._held
        self._held = None
        if line is not None:
            self._write(line)

    def _drop(self, lines: list[str]) -> None:
        """Take back lines that what the script has printed makes superfluous."""
        if self._held in lines:
            self._held = None
        logged = [line for line in lines if line in self._lines]
        for line in logged:
            self._lines.remove(line)
        if logged:
            self._start_again()

    def _note_output(self, printed: Printed) -> None:
        """Log new output; a line without an end is shown below the log until it ends."""
        lines = [f"… {printed.n_skipped:,} bytes of output skipped; output.log has them"] if printed.n_skipped else []
        lines += [printable(line) for line in printed.lines]
        if superfluous := self._printed_losses.print(lines):
            self._drop(superfluous)
        if lines:
            self._write("\n".join(lines))
        self.query_one("#unfinished").display = bool(printed.unfinished)
        self.put("#unfinished", Text(printable(printed.unfinished)))

    def on_print(self, event: events.Print) -> None:
        """Log what user code prints; on the terminal it would break the screen."""
        if text := event.text.rstrip("\n"):
            self._write(f"{'stderr' if event.stderr else 'stdout'}: {printable(text)}")

    def summary(self, state: LabState) -> str:
        """Return the last line without its time, for which there is no room."""
        return TIME.sub("", self._lines[-1].rpartition("\n")[2]) if self._lines else ""

    def _write(self, text: str) -> None:
        self._last_pauses = []
        self._lines.append(text)
        if self._search in text.lower():
            self._waiting.append(text)
            self._log_waiting()

    def _log_waiting(self) -> None:
        """Log what waits, and all of it at a new width, since RichLog keeps the lines as it has wrapped them.

        Not while the pane is hidden: it would be wrapped at RichLog's least width.
        """
        log = self.query_one_optional(Log)
        if log is None:
            return  # The screen is being removed.
        width = log.scrollable_content_region.width
        if not self.display or self.is_line or width <= 0:
            return
        if width != self._logged_width:
            self._logged_width = width
            self._start_again()
        while self._waiting:
            # Without a width RichLog also wraps at that of the terminal, which is 80 where there is none.
            log.write(self._waiting.popleft(), width=width)

    def on_resize(self, event: events.Resize) -> None:
        self.call_after_refresh(self._log_waiting)

    def copied(self) -> str:
        """Return the whole log, or the lines that match the search."""
        return "\n".join(line for line in self._lines if self._search in line.lower())

    def on_search_field_searched(self, message: SearchField.Searched) -> None:
        """Log the matching lines only."""
        self._search = message.text
        self._start_again()
        self._log_waiting()

    def _start_again(self) -> None:
        """Clear the log; everything that matches the search waits to be logged."""
        self.query_one(Log).clear()
        self._waiting = deque((line for line in self._lines if self._search in line.lower()), MAX_LINES)

    def action_search(self) -> None:
        self.query_one(SearchField).open()

    def action_end_search(self) -> None:
        self.query_one(SearchField).action_end_search()

    def show(self, state: LabState, now: float) -> None:
        self._log_waiting()

"""The status line: phase, step, loss, ETA, throughput and memory."""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import psutil
from rich.text import Text
from textual.widgets import Static

from tui_lab.app.session.state import NO_RUN, LabState
from tui_lab.core.config.script import is_imported
from tui_lab.runs.names import short_name, state_name
from tui_lab.runs.numbers import short_number, span
from tui_lab.util.escape import printable

SIGNS = {"loading": "…", "waiting": "…", "running": "▶", "paused": "‖", "ended": "■", "failed": "✗"}
REPLAY_PHASES = {"running": "replaying", "paused": "replay paused"}
"""Of a replay: the run itself does not run any more."""
LEAST_NAME_WIDTH = 20
"""Columns of the name of a run, before something else is left out."""
LEAST_NAME_WIDTH_WITH_ETA = 13
"""Where the remaining time would have no room, as in 80 columns beside the process of a script."""
RANK_OF_ETA = 5
LONG_NOTE = "trained by "
"""What the note of a followed run begins with, if there is room."""
LEAST_RANK_BEFORE_NOTE = 2
"""Of the parts for which the note is shortened."""
SECONDS_BETWEEN_MEMORY_READINGS = 1.5
SECONDS_TO_SHOW = 2.0
"""From when on a wait is shown with its time: most end sooner."""


def resident_bytes() -> int:
    """Return the memory of this process."""
    return int(psutil.Process().memory_info().rss)


def phase_text(state: LabState) -> str:
    """Return what the run is doing, or how it ended."""
    match state.phase:
        case "loading":
            return state.doing
        case "waiting":
            return "no step yet"
        case "ended":
            return state_name(state.ending)
        case "running" if state.step_time.is_compiling:
            return "compiling the model"
        case phase:
            return phase


def is_awaited(state: LabState) -> bool:
    """Return whether nothing but the time shows that something happens: the run is being opened or compiled."""
    if state.phase == "loading":
        return state.doing != NO_RUN and not state.doing.endswith("%")
    return state.phase == "running" and state.step_time.is_compiling


class Part(NamedTuple):
    """A part of the line; those of the highest rank come first where not all fit."""

    text: str
    rank: int
    style: str = ""


def _length(parts: Iterable[Part]) -> int:
    return sum(len(part.text) for part in parts)


def _fitting(parts: Sequence[Part], width: int) -> list[Part]:
    """Return the parts that fit into `width` in their order, those of the highest rank first."""
    kept: list[Part] = []
    for part in sorted(parts, key=lambda part: -part.rank):
        if not kept or _length([*kept, part]) <= width:
            kept.append(part)
    return [part for part in parts if part in kept]


class StatusLine(Static):
    """`memory` returns the bytes that this process uses."""

    def __init__(self, id: str, memory: Callable[[], int] = resident_bytes) -> None:
        super().__init__(id=id)
        self._memory = memory
        self._memory_text = ""
        self._memory_read_at = float("-inf")
        self._is_replayed = False
        self._wait = ""
        """What is awaited; empty if nothing is."""
        self._wait_began = 0.0
        self._waited = 0.0
        """Seconds."""

    def show(self, state: LabState, now: float, note: str = "", answer: str = "", *, is_replayed: bool = False) -> None:
        """Draw the state, in the frame of the panes.

        note: about the source; answer: to the last key. is_replayed: without the speed of the recording, and the
        number of steps, which is that of the seek bar.
        """
        if now - self._memory_read_at >= SECONDS_BETWEEN_MEMORY_READINGS:
            self._memory_read_at = now
            self._memory_text = f"{self._memory() / 2**20:,.0f} MiB"
        self._is_replayed = is_replayed
        self._follow_wait(phase_text(state) if is_awaited(state) and not is_replayed else "", now)
        line = self._line(state, note, answer)
        if line != self.content:
            self.update(line, layout=False)

    def _follow_wait(self, wait: str, now: float) -> None:
        if wait != self._wait:
            self._wait = wait
            self._wait_began = now
        self._waited = now - self._wait_began if wait else 0.0

    def _line(self, state: LabState, note: str, answer: str) -> Text:
        """Return the parts that fit: first a long name and the note are shortened, then those that matter least go."""
        run = state.ready or state.waiting
        name = "" if run is None else printable(run.name)
        parts = self._parts(state, note, answer, name)
        width = self.size.width
        if width and (excess := _length(parts) - width) > 0:
            name = short_name(name, max(LEAST_NAME_WIDTH, len(name) - excess))
            parts = self._parts(state, note, answer, name)
        if width and _length(part for part in parts if part.rank >= LEAST_RANK_BEFORE_NOTE) > width:
            parts = self._parts(state, note.removeprefix(LONG_NOTE), answer, name)
        if width and _length(part for part in parts if part.rank >= RANK_OF_ETA) > width:
            short = short_name(name, LEAST_NAME_WIDTH_WITH_ETA)
            parts = self._parts(state, note.removeprefix(LONG_NOTE), answer, short)
        if width:
            parts = _fitting(parts, width)
        text = Text(no_wrap=True, overflow="ellipsis")
        for part in parts:
            text.append(part.text, part.style)
        return text

    def _parts(self, state: LabState, note: str, answer: str, name: str) -> list[Part]:
        phase = REPLAY_PHASES.get(state.phase, "") if self._is_replayed else ""
        parts = [Part(f"{SIGNS[state.phase]} {phase or phase_text(state)}", 9, "bold reverse")]
        parts += [Part(f" {name}", 5)] if name else []
        parts += [Part(f" · {note}", 6, "bold")] if note and not phase else []
        parts += [Part(f" · {answer}", 9, "bold")] if answer else []
        parts += [Part(f"  for {span(self._waited)}", 8)] if self._waited >= SECONDS_TO_SHOW else []
        if state.waiting is not None and not state.over:
            parts.append(Part(f"  started {span(state.waiting.seconds)} ago", 8))
        elif state.config is not None:
            n_steps = 0 if self._is_replayed else state.config.train.steps
            parts.append(Part(f"  step {state.step:,}" + (f"/{n_steps:,}" if n_steps else ""), 8))
        if state.last is not None:
            parts += [] if state.epoch is None else [Part(f"  epoch {state.epoch:,}", 3)]
            parts.append(Part(f"  loss {short_number(state.last.loss)}", 7))
            # Of the first step, the mean is the loss.
            parts += [Part(f"  mean {short_number(state.last.loss_ema)}", 4)] if state.last.step > 1 else []
            if state.phase == "running" and not self._is_replayed and state.seconds_left is not None:
                parts.append(Part(f"  ETA {span(state.seconds_left)}", RANK_OF_ETA))
        if (rate := state.mean_tokens_per_s) is not None and not self._is_replayed:
            unit = "tok" if state.unit == "tokens" else state.unit
            parts.append(Part(f"  mean {rate:,.0f} {unit}/s", 2))
        if state.started is not None and not is_imported(state.config):
            parts.append(Part(f"  {state.started.device} ×{state.started.threads}", 1))
        return [*parts, Part(f"  {self._memory_text}", 0)]

"""The keys that steer a run and change its live settings."""

from collections.abc import Callable
from functools import partial
from typing import Any

from tui_lab.app.session.source import Source
from tui_lab.app.session.state import LabState
from tui_lab.core import commands as cmd

SHUFFLE_MODES = ("epoch", "once", "off")
DROPOUT_STEP = 0.05
SEEK_SHARE = 0.05
"""Fraction of a replay that one key press goes back or forward."""


class RunControls:
    """Steer a source; `actions` maps the ids of `tui_lab.app.actions` to what they do.

    send: gives a command to the source; by default its own method.
    """

    def __init__(self, source: Source, state: LabState, send: Callable[[cmd.Command], None] | None = None) -> None:
        self._source = source
        self._send = send or source.send
        self._state = state
        self.pauses_at_start = False
        """Whether a pause was requested while the run was being opened."""
        self.awaits_save = False
        """Whether the user asked for a checkpoint that is not written yet."""
        self.actions: dict[str, Callable[[], None]] = {
            "pause": self.pause_or_resume,
            "slower": partial(self.change_speed, -1),
            "faster": partial(self.change_speed, 1),
            "seek_back": partial(self.seek, -1),
            "seek_forward": partial(self.seek, 1),
            "lr_down": partial(self.scale_lr, 0.5),
            "lr_up": partial(self.scale_lr, 2.0),
            "checkpoint": self.save,
            **{id: partial(self._send, command) for id, command in COMMANDS.items()},
        }

    def scale_lr(self, factor: float) -> None:
        """Multiply the learning rate; of a script, the factor on top of its own schedule."""
        key = "optim.lr_factor" if self._state.is_script else "optim.lr"
        self._send(cmd.Scale(key, factor))

    def save(self) -> None:
        """Write a checkpoint, which stays."""
        self.awaits_save = True
        self._send(cmd.Save())

    def pause_or_resume(self) -> None:
        playback = self._source.playback
        if self._state.phase == "loading" and playback is None:
            paused = self.pauses_at_start  # It is taken before the next step.
            self.pauses_at_start = not paused
        elif playback is None:
            phase = self._state.phase
            paused = phase == "paused" or self._state.requested_pause.is_next(phase)
        elif playback.timeline is not None and playback.position >= playback.timeline.end:
            paused = True  # It is played again.
            playback.seek(0)
        else:
            paused = playback.paused
        self._send(cmd.Resume() if paused else cmd.Pause())

    def change_speed(self, by: int) -> None:
        """Play a replay `by` speeds faster."""
        if self._source.playback is not None:
            self._source.playback.change_speed(by)

    def seek(self, by: int) -> None:
        """Go forward by `by` times `SEEK_SHARE` of a replay; steps, not time, so that it shows on the bar."""
        playback = self._source.playback
        if playback is not None and playback.timeline is not None:
            end = playback.timeline.end
            step = playback.position + by * max(1, round(SEEK_SHARE * end))
            playback.seek(max(0, min(end, step)))

    def set_live(self, changes: dict[str, Any]) -> None:
        """Change live settings at the next step."""
        for key, value in changes.items():
            self._send(cmd.Set(key, value))


def pause_replay(source: Source) -> Callable[[], None]:
    """Pause a replay that plays, for a question about its step; return what plays it on."""
    if source.playback is None or source.playback.paused:
        return lambda: None
    source.send(cmd.Pause())
    return partial(source.send, cmd.Resume())


# Relative changes: a key may be pressed again before the trainer has reported the change of the press before.
COMMANDS: dict[str, cmd.Command] = {
    "step": cmd.Step(1),
    "ten_steps": cmd.Step(10),
    "evaluate": cmd.Evaluate(),
    "dropout_down": cmd.Shift("model.dropout", -DROPOUT_STEP),
    "dropout_up": cmd.Shift("model.dropout", DROPOUT_STEP),
    "batch_down": cmd.Scale("train.batch_size", 0.5),
    "batch_up": cmd.Scale("train.batch_size", 2.0),
    "overfit": cmd.Cycle("data.overfit", (0, 1)),
    "shuffle": cmd.Cycle("data.shuffle", SHUFFLE_MODES),
    "undo": cmd.Undo(),
}

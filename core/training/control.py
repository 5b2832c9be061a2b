"""Control of a running trainer: its command queue, pausing, single steps, stopping, and the changes Undo can revert."""

import queue
from collections import deque
from collections.abc import Iterable

from tui_lab.core import commands as cmd
from tui_lab.core import events as ev
from tui_lab.core.training.distributed import ProcessGroup


class TrainControl:
    """What the user has asked of a trainer. Put commands into `commands` from any thread; the rest is the trainer's.

    undo_stack: the live changes that Undo reverts, the last first; a resumed run passes its earlier ones.
    """

    def __init__(self, commands: cmd.CommandQueue | None = None, undo_stack: Iterable[ev.Changed] = ()) -> None:
        self.commands: cmd.CommandQueue = queue.SimpleQueue() if commands is None else commands
        self.undo_stack = list(undo_stack)
        self.paused = False
        self.stop_requested = False
        self._steps_left = 0
        self._pending: deque[cmd.Command] = deque()

    @property
    def has_pending(self) -> bool:
        return bool(self._pending)

    @property
    def steps_left(self) -> int:
        """The steps that remain until the next pause; 0 if none is planned."""
        return self._steps_left

    def poll(self, group: ProcessGroup, *, wait: bool = False) -> None:
        """Take the commands that have arrived; with `wait`, block until there is one, unless some are pending.

        A pause that was taken back before it began is dropped, so that it leaves no events.
        """
        self._pending.extend(group.commands(self.commands, wait=wait and not self._pending))
        resumes = [i for i, command in enumerate(self._pending) if isinstance(command, cmd.Resume)]
        if resumes:
            kept = [c for i, c in enumerate(self._pending) if i > resumes[-1] or not isinstance(c, cmd.Pause)]
            self._pending = deque(kept)

    def next_command(self) -> cmd.Command | None:
        """Take the oldest pending command; None if there is none or the trainer is to stop."""
        return self._pending.popleft() if self._pending and not self.stop_requested else None

    def drop_pending(self) -> list[cmd.Command]:
        """Drop the pending commands, and return them."""
        dropped = list(self._pending)
        self._pending.clear()
        return dropped

    def stop_is_pending(self) -> bool:
        return any(isinstance(command, cmd.Stop) for command in self._pending)

    def request_stop(self) -> None:
        """End training at the next step boundary; commands that are still pending are dropped."""
        self.stop_requested = True

    def end_stop(self) -> None:
        """Forget the stop and all pending commands: a script may catch the stop and continue, as after Ctrl+C."""
        self.stop_requested = False
        self._steps_left = 0
        self._pending.clear()

    def pause(self) -> bool:
        """Pause. Returns whether the trainer was running."""
        was_running = not self.paused
        if was_running:
            self.paused = True
            self._steps_left = 0
        return was_running

    def resume(self, steps: int = 0) -> bool:
        """Continue; with `steps` pause after that many, and after those that are left of an earlier call.

        Returns whether the trainer was paused.
        """
        was_paused = self.paused
        self._steps_left = self._steps_left + steps if steps else 0
        self.paused = False
        return was_paused

    def count_step(self) -> None:
        """Call after each step: pauses once the steps of `resume` are done."""
        if self._steps_left:
            self._steps_left -= 1
            if self._steps_left == 0:
                self._pending.append(cmd.Pause())

    def record_change(self, change: ev.Changed, *, undone: bool) -> None:
        """Keep `change` for Undo, or drop the change that it has just reverted."""
        if undone:
            self.undo_stack.pop()
        else:
            self.undo_stack.append(change)

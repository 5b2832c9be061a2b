"""The live changes that were sent and are not confirmed yet."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tui_lab.core import commands as cmd
from tui_lab.core import events as ev
from tui_lab.core.config import script
from tui_lab.core.config.script import RunConfig
from tui_lab.util.errors import ConfigError

STEPS_UNTIL_TAKEN = 2
"""A trainer takes commands before each step, so after that many more it has taken those that were sent."""


@dataclass(frozen=True)
class _Request:
    change: ev.Changed
    is_undo: bool
    step: int
    """Steps done when it was sent."""


@dataclass
class Requested:
    """Predicts what the trainer will make of each command, from the changes before it.

    Call `sent` for every command and `apply` for every event. A request ends when its change is confirmed, with a
    warning, or once the trainer must have taken it.
    """

    _requests: list[_Request] = field(default_factory=list)

    @property
    def values(self) -> dict[str, Any]:
        """The value that was requested for each setting."""
        return {request.change.key: request.change.new for request in self._requests}

    @property
    def changes(self) -> list[ev.Changed]:
        """The changes that were requested, joined for each setting."""
        joined: dict[str, ev.Changed] = {}
        for change in (request.change for request in self._requests):
            old = joined[change.key].old if change.key in joined else change.old
            joined[change.key] = replace(change, old=old)
        return list(joined.values())

    def copy(self) -> "Requested":
        return Requested(list(self._requests))

    def sent(self, command: cmd.Command, config: RunConfig, changes: Sequence[ev.Changed], step: int) -> None:
        """Note a command that was sent after `step` steps. changes: all that the run has made so far."""
        if not isinstance(command, cmd.Set | cmd.Scale | cmd.Shift | cmd.Cycle | cmd.Undo):
            return
        stack = cmd.undo_stack(changes, config)
        try:
            for request in self._requests:
                config = script.changed(config, request.change.key, request.change.new)
                stack = stack[:-1] if request.is_undo else [*stack, request.change]
            key, value = cmd.resolve(command, config, stack)
            old = script.get(config, key)
            new = script.get(script.changed(config, key, value), key)
        except ConfigError:
            return  # The trainer will refuse it, with a warning.
        if new != old:
            change = ev.Changed(step=step, key=key, old=old, new=new)
            self._requests.append(_Request(change, isinstance(command, cmd.Undo), step))

    def apply(self, event: ev.Event) -> None:
        """End the requests that an event answers."""
        match event:
            case ev.Changed(key=key):
                keys = [request.change.key for request in self._requests]
                if key in keys:  # Those before it were refused: commands are taken in order.
                    del self._requests[: keys.index(key) + 1]
            case ev.Warned() | ev.Stopped() | ev.Failed():
                self._requests.clear()
            case ev.StepDone(step=step):
                self._requests = [one for one in self._requests if step < one.step + STEPS_UNTIL_TAKEN]

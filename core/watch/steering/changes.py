"""Changes of a script's settings: what a command changes, and how the change is put into force."""

from dataclasses import dataclass
from typing import Any

from tui_lab.core import commands as cmd
from tui_lab.core import events as ev
from tui_lab.core.config import script
from tui_lab.core.config.script import ScriptConfig
from tui_lab.core.training.control import TrainControl
from tui_lab.core.watch.recorder import Recorder


@dataclass(frozen=True)
class ResolvedChange:
    """What a command changes. config: with the change. is_own: whether `new` is the value of the script itself."""

    key: str
    old: Any
    new: Any
    config: ScriptConfig
    is_own: bool
    is_undo: bool


class ScriptChanges:
    """control: keeps what Undo reverts."""

    def __init__(self, control: TrainControl) -> None:
        self._control = control
        self._own: dict[str, Any] = {}
        """The script's own value of each setting that was changed."""

    def resolve(self, command: cmd.Change, recorder: Recorder) -> ResolvedChange | None:
        """Return what the command changes; None if the setting has that value already. Raises ConfigError."""
        old_config = recorder.log.config
        key, value = cmd.resolve(command, old_config, self._control.undo_stack)
        old = script.get(old_config, key)
        config = script.changed(old_config, key, value)
        new = script.get(config, key)
        if new == old or not isinstance(config, ScriptConfig):
            return None
        is_own = new == self._own.get(key, old)
        return ResolvedChange(key, old, new, config, is_own, isinstance(command, cmd.Undo))

    def make(self, change: ResolvedChange, recorder: Recorder) -> None:
        """Put the change into force and record it; the script's own value ends the changes of a setting."""
        self._own.setdefault(change.key, change.old)
        value = None if change.is_own else change.new
        recorder.steering.change(change.key, value, lambda: recorder.script.model)
        recorder.hooks.max_norm = recorder.steering.max_norm
        recorder.log.config = change.config
        event = ev.Changed(step=recorder.log.n_steps, key=change.key, old=change.old, new=change.new)
        self._control.record_change(event, undone=change.is_undo)
        recorder.log.put(event)

"""The settings of a run with the edits of the user, which take effect after a restart or fork."""

from collections.abc import Mapping
from typing import Any

from tui_lab.app.panes.setting_text import format_value, is_live, value_of
from tui_lab.core.config import script
from tui_lab.core.config.schema import Config
from tui_lab.core.config.script import RunConfig

READ_ONLY = "read only: the script or the log sets it"
"""Of a setting that only the script can change, or nothing."""
NOT_STEERED = "read only: the script has ended, or takes no commands"


class EditedSettings:
    """An edit stays when the run, or a replay that moves, has another value, until it is reset."""

    def __init__(self, initial: RunConfig, running: RunConfig) -> None:
        self.initial = initial
        """As the run started."""
        self.running = running
        """In effect."""
        self.edited = running
        """In effect, with the edits."""
        self.requested: Mapping[str, Any] = {}
        """Values that were sent to the trainer, which has not confirmed them yet."""
        self._edited_keys: dict[str, None] = {}
        self.hides_faults = True
        """Whether the names of the planted faults are still to be found by the user."""

    def shown_value(self, key: str) -> str:
        """Return the edited value of a setting as text, unless the user is to find it."""
        hidden = not self.is_changed(key)
        return self._text(key, value_of(self.edited, key), hidden=hidden)

    def shown_initial_value(self, key: str) -> str:
        """Return the value at the start of the run as text, unless the user is to find it."""
        return self._text(key, value_of(self.initial, key), hidden=True)

    def _text(self, key: str, value: Any, *, hidden: bool) -> str:
        if key == "faults" and value and hidden and self.hides_faults:
            return f"{len(value)} planted"
        return format_value(value)

    def follow(self, running: RunConfig) -> None:
        """Take over the settings that changed in the run, apart from those that the user edited."""
        before = script.values_of(self.running)
        for key, value in script.values_of(running).items():
            if value != before.get(key) and key not in self._edited_keys:
                self.edited = script.changed(self.edited, key, value)
        self.running = running

    def await_changes(self, requested: Mapping[str, Any]) -> None:
        """Note the values that were sent and are not confirmed. Where one was refused, the value in effect is back."""
        for key in self.requested.keys() - requested.keys() - self._edited_keys.keys():
            self.edited = script.changed(self.edited, key, value_of(self.running, key))
        self.requested = requested

    def edit(self, key: str, value: Any) -> None:
        """Edit a setting; with the value in effect, it is no longer edited. Raises ConfigError."""
        self.edited = script.changed(self.edited, key, value)
        self._edited_keys.pop(key, None)
        if self.waits(key):
            self._edited_keys[key] = None

    def end_edit(self, key: str) -> None:
        """Let a setting follow the run again: its value is sent to the trainer."""
        self._edited_keys.pop(key, None)

    def value_after_reset(self, key: str) -> Any:
        """Return the value in effect of an edited setting, of another one its value at the start of the run."""
        # In a replay, what the run has at this step: its setting then follows the run again.
        return value_of(self.running if key in self._edited_keys else self.initial, key)

    @property
    def last_edited_key(self) -> str | None:
        """The setting that was edited last; None if no edit is pending."""
        return next(reversed(self._edited_keys), None)

    @property
    def edits(self) -> dict[str, Any]:
        """The settings that the user edited, also where the run now has the same value."""
        return {key: value_of(self.edited, key) for key in sorted(self._edited_keys)}

    @property
    def of_script(self) -> bool:
        """Whether the run is recorded from a script."""
        return not isinstance(self.edited, Config)

    @property
    def wait_for_restart(self) -> bool:
        """Whether an edited setting takes effect only after a restart."""
        return self.edited is not self.running and not self.of_script and self.edited != self.running

    def is_changed(self, key: str) -> bool:
        """Return whether the edited value differs from the value at the start of the run."""
        return _differ(self.edited, self.initial, key)

    def waits(self, key: str) -> bool:
        """Return whether the edited value is not in effect yet."""
        return _differ(self.edited, self.running, key)

    def is_live(self, key: str) -> bool:
        """Return whether the setting can change while the run trains."""
        return is_live(self.edited, key)

    def why_fixed(self, key: str, *, can_steer: bool) -> str:
        """Return why a setting of a script cannot be changed; empty if it can, and for our own runs.

        can_steer: whether the script takes commands.
        """
        if not self.of_script:
            return ""
        if not self.is_live(key):
            return READ_ONLY
        return "" if can_steer else NOT_STEERED


def _differ(one: RunConfig, other: RunConfig, key: str) -> bool:
    """Return whether two configs have different values of a setting."""
    return one != other and value_of(one, key) != value_of(other, key)

"""The keys that run the doctor and apply its fixes."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from tui_lab.app.actions import applies
from tui_lab.app.panes.setting_text import changes_text
from tui_lab.app.screens.run_controls import RunControls
from tui_lab.app.session.doctor_thread import DoctorThread
from tui_lab.app.session.source import Source
from tui_lab.app.session.state import LabState
from tui_lab.core.config import settings
from tui_lab.core.config.schema import Config
from tui_lab.core.config.script import RunConfig
from tui_lab.core.doctor.findings import Finding
from tui_lab.core.doctor.fixes import fixed

if TYPE_CHECKING:
    from tui_lab.core.training.reproducibility import RandomSource

Notify = Callable[[str], None]


class DoctorControls:
    """Diagnose a config, and apply fixes as live changes or by a restart.

    `restart` starts a new run with a config and diagnoses it; `notify` and `warn` show a message to the user.
    """

    def __init__(
        self,
        doctor: DoctorThread,
        source: Source,
        state: LabState,
        controls: RunControls,
        *,
        restart: Callable[[Config], None],
        notify: Notify,
        warn: Notify,
    ) -> None:
        self._doctor = doctor
        self._source = source
        self._state = state
        self._controls = controls
        self._restart = restart
        self._notify = notify
        self._warn = warn

    def diagnose(self, config: RunConfig) -> None:
        if self._doctor.busy:
            self._warn("The doctor is already running.")
        self._doctor.start(config)

    def apply_fix(self, config: Config, finding: Finding) -> None:
        new_config = fixed(config, finding)
        if new_config is None:
            self._warn(f"No setting fixes this. {finding.fix}")
        else:
            self._change(config, new_config)

    def pin(self, config: Config, sources: "tuple[RandomSource, ...]") -> None:
        """Set every setting that makes a source of randomness reproducible."""
        from tui_lab.core.training.reproducibility import pinned

        pinned_config = pinned(config, sources)
        if pinned_config == config:
            self._warn("Everything that a setting can pin is pinned.")
        else:
            self._change(config, pinned_config)

    def _change(self, old: Config, new: Config) -> None:
        """Apply live changes at the next step; restart if any setting is not live."""
        changes = settings.differences(old, new)
        live_now = applies("live", phase=self._state.phase, role=self._source.role)
        if live_now and all(map(settings.is_live, changes)):
            self._controls.set_live(changes)
            self._notify(f"from the next step on: {changes_text(old, new)}")
            self._doctor.start(new)
        else:
            self._restart(new)
